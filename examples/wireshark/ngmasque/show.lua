-- What the dissector adds to the tree and to the Info column, and the fields that filters can use.

local Reader = require("ngmasque.reader")
local frames = require("ngmasque.frames")
local capsules = require("ngmasque.capsules")

local show = {}

show.protocol = Proto("ngmasque", "QUIC server migration and UDP through HTTP/3")

local FORMS = { [0] = "short header", [1] = "long header" }
local field = {
  parameter = ProtoField.none("ngmasque.parameter", "Transport parameter server_alternate_address"),
  alternate = ProtoField.none("ngmasque.alternate", "SERVER_ALTERNATE_ADDRESS"),
  sequence = ProtoField.uint64("ngmasque.alternate.sequence", "Sequence Number"),
  ipv4 = ProtoField.ipv4("ngmasque.alternate.ipv4", "IPv4 Address"),
  ipv4_port = ProtoField.uint16("ngmasque.alternate.ipv4_port", "IPv4 Port"),
  ipv6 = ProtoField.ipv6("ngmasque.alternate.ipv6", "IPv6 Address"),
  ipv6_port = ProtoField.uint16("ngmasque.alternate.ipv6_port", "IPv6 Port"),
  alternate_id = ProtoField.bytes("ngmasque.alternate.connection_id", "Connection ID"),
  alternate_token = ProtoField.bytes("ngmasque.alternate.token", "Stateless Reset Token"),

  unknown = ProtoField.uint64("ngmasque.unknown_frame", "Frame of unknown type", base.HEX),
  unread = ProtoField.uint32("ngmasque.unknown_frame.unread", "Bytes behind it that nobody can read"),

  request = ProtoField.none("ngmasque.request", "Request for UDP"),
  response = ProtoField.none("ngmasque.response", "Response to a request for UDP"),
  header = ProtoField.string("ngmasque.field", "Field"),
  stream = ProtoField.uint64("ngmasque.stream", "Stream ID"),
  dialect = ProtoField.string("ngmasque.dialect", "Dialect"),

  datagram = ProtoField.none("ngmasque.datagram", "HTTP Datagram"),
  flow = ProtoField.uint64("ngmasque.flow_id", "Flow ID"),
  quarter = ProtoField.uint64("ngmasque.quarter_stream_id", "Quarter Stream ID"),
  context = ProtoField.uint64("ngmasque.context_id", "Context ID"),
  payload = ProtoField.bytes("ngmasque.payload", "UDP Payload"),
  inner_form = ProtoField.uint8("ngmasque.inner.header_form", "Header Form", base.DEC, FORMS),
  inner_version = ProtoField.uint32("ngmasque.inner.version", "Version", base.HEX),
  inner_dcid = ProtoField.bytes("ngmasque.inner.dcid", "Destination Connection ID"),
  inner_scid = ProtoField.bytes("ngmasque.inner.scid", "Source Connection ID"),

  capsule = ProtoField.string("ngmasque.capsule", "Capsule"),
  capsule_type = ProtoField.uint64("ngmasque.capsule.type", "Type", base.HEX),
  capsule_length = ProtoField.uint64("ngmasque.capsule.length", "Length"),
  revision = ProtoField.string("ngmasque.capsule.revision", "Revision of the draft"),
  reason = ProtoField.uint64("ngmasque.capsule.reason", "Reason", base.DEC),
  id = ProtoField.bytes("ngmasque.capsule.connection_id", "Connection ID"),
  virtual_id = ProtoField.bytes("ngmasque.capsule.virtual_connection_id", "Virtual Connection ID"),
  token = ProtoField.bytes("ngmasque.capsule.token", "Stateless Reset Token"),
  maximum = ProtoField.uint64("ngmasque.capsule.maximum", "Maximum Connection IDs"),
  malformed = ProtoField.none("ngmasque.capsule.malformed", "Malformed"),
  chunk = ProtoField.none("ngmasque.stream_payload", "UDP payload on the stream"),

  forwarded = ProtoField.none("ngmasque.forwarded", "Forwarded packet"),
  forwarded_as = ProtoField.bytes("ngmasque.forwarded.connection_id", "Connection ID on this path"),
  original = ProtoField.string("ngmasque.forwarded.original", "Connection ID that it stands for"),
  transform = ProtoField.string("ngmasque.forwarded.transform", "Packet Transform"),
  registered = ProtoField.framenum("ngmasque.forwarded.registered_in", "Registered in frame"),
  outer = ProtoField.uint32("ngmasque.forwarded.connection", "Connection Number to the proxy"),
}
for _, f in pairs(field) do
  show.protocol.fields[#show.protocol.fields + 1] = f
end

-- Wireshark's own part reads on behind the type of a frame that it does not know.  What it shows
-- there cannot be taken away.
local no_frames = {
  alternate = ProtoExpert.new("ngmasque.no_frames.alternate",
    "Wireshark's QUIC does not know this frame: what it shows of this QUIC packet from here on may be no frames",
    expert.group.UNDECODED, expert.severity.NOTE),
  unknown = ProtoExpert.new("ngmasque.no_frames.unknown",
    "Nobody knows where this frame ends: what Wireshark's QUIC shows of this QUIC packet from here on may be no frames",
    expert.group.UNDECODED, expert.severity.WARN),
}
for _, e in pairs(no_frames) do
  show.protocol.experts[#show.protocol.experts + 1] = e
end

local function u64(value)
  return UInt64(value % 2 ^ 32, math.floor(value / 2 ^ 32))
end

local function add_u64(tree, what, range, value)
  if range then
    return tree:add(what, range, u64(value))
  end
  return tree:add(what, u64(value))
end

-- The part of `tvb` that a reader has called {first, length}, counted from 1
local function part(tvb, where)
  return tvb(where[1] - 1, where[2])
end

-- Bytes of a stream, which came in one packet or in several, as a tab of their own
local function tab(bytes, name)
  return ByteArray.new(bytes, true):tvb(name)
end

local function add_udp(tree, range)
  local item = tree:add(field.payload, range)
  local header = frames.invariants(range:bytes():raw())
  if not header then
    return
  end
  item:append_text(" (" .. range:len() .. " bytes, " .. FORMS[header.form] .. ")")
  item:add(field.inner_form, range(0, 1), header.form)
  if header.form == 1 then
    item:add(field.inner_version, range(1, 4))
    if #header.dcid > 0 then
      item:add(field.inner_dcid, range(6, #header.dcid))
    end
    if #header.scid > 0 then
      item:add(field.inner_scid, range(7 + #header.dcid, #header.scid))
    end
  end
end

local kinds = {}

function kinds.alternate(note, at, tree)
  local tvb = at.payloads[note.payload]
  local item = tree:add(field.alternate, part(tvb, { note.at, note.length }))
  add_u64(item, field.sequence, part(tvb, note.sequence_at), note.sequence)
  for _, name in ipairs({ "ipv4", "ipv4_port", "ipv6", "ipv6_port" }) do
    item:add(field[name], part(tvb, note[name .. "_at"]))
  end
  if #note.id > 0 then
    item:add(field.alternate_id, part(tvb, note.id_at))
  end
  item:add(field.alternate_token, part(tvb, note.token_at))
  item:add_proto_expert_info(no_frames.alternate)
  return "SERVER_ALTERNATE_ADDRESS(" .. string.format("%d", note.sequence) .. ")"
end

function kinds.unknown(note, at, tree)
  local range = part(at.payloads[note.payload], { note.at, note.length })
  local item = add_u64(tree, field.unknown, range, note.type)
  item:add(field.unread, note.behind):set_generated()
  item:add_proto_expert_info(no_frames.unknown)
  return string.format("unknown frame, %d bytes not read", note.behind)
end

function kinds.datagram(note, at, tree)
  local tvb = at.payloads[note.payload]
  local item = tree:add(field.datagram, part(tvb, { note.at, note.length }))
  local datagram = note.datagram
  if not datagram then
    item:append_text(": too short")
    return "datagram too short"
  end
  local where = { note.at, datagram.first_length }
  item:add(field.dialect, datagram.dialect):set_generated()
  local text
  if datagram.dialect == "rfc9298" then
    add_u64(item, field.quarter, part(tvb, where), datagram.first)
    add_u64(item, field.stream, nil, datagram.first * 4):set_generated()
    local context = { where[1] + where[2], datagram.context_length }
    add_u64(item, field.context, part(tvb, context), datagram.context)
    text = string.format("stream %d, context %d", datagram.first * 4, datagram.context)
  elseif datagram.dialect == "draft-00" then
    add_u64(item, field.flow, part(tvb, where), datagram.first)
    text = string.format("flow %d", datagram.first)
  else
    item:append_text(": its request has not been captured")
    return "datagram"
  end
  item:append_text(": " .. text)
  local length = note.length - datagram.payload_at + 1
  if length > 0 and (datagram.context or 0) == 0 then
    add_udp(item, part(tvb, { note.at + datagram.payload_at - 1, length }))
  end
  return "tunnelled (" .. text .. ")"
end

local function message(kind)
  return function(note, _, tree)
    local item = tree:add(field[kind])
    add_u64(item, field.stream, nil, note.stream)
    item:add(field.dialect, note.dialect)
    local said = {}
    for _, pair in ipairs(note.fields) do
      item:add(field.header, pair[1] .. ": " .. pair[2])
      said[pair[1]] = pair[2]
    end
    local text
    if kind == "request" then
      text = said[":method"] .. " " .. (said[":path"] or said[":authority"] or "")
    else
      text = (said[":status"] or "?") .. " to stream " .. string.format("%d", note.stream)
    end
    item:append_text(": " .. text)
    return text
  end
end
kinds.request = message("request")
kinds.response = message("response")

function kinds.capsule(note, _, tree)
  local tvb = tab(note.bytes, "Capsule " .. note.name)
  local item = tree:add(field.capsule, tvb(), note.name)
  add_u64(item, field.stream, nil, note.stream):set_generated()
  add_u64(item, field.capsule_type, part(tvb, note.where.type), note.type)
  add_u64(item, field.capsule_length, part(tvb, note.where.length), note.length)
  if note.type == capsules.DATAGRAM then
    local value = Reader.new(note.bytes, note.payload_at)
    local context = value:try(value.varint)
    if context then
      local where = { note.payload_at, value.at - note.payload_at }
      add_u64(item, field.context, part(tvb, where), context)
      if context == 0 and value:left() > 0 then
        add_udp(item, part(tvb, { value.at, value:left() }))
      end
    end
    return "capsule DATAGRAM"
  end
  item:add(field.revision, note.revision):set_generated()
  if note.reason then
    add_u64(item, field.reason, part(tvb, note.where.reason), note.reason)
      :append_text(" (" .. (capsules.REASONS[note.reason] or "unknown") .. ")")
  end
  for _, name in ipairs({ "id", "virtual_id", "token" }) do
    if note[name] and #note[name] > 0 then
      item:add(field[name], part(tvb, note.where[name]))
    end
  end
  if note.maximum then
    add_u64(item, field.maximum, part(tvb, note.where.maximum), note.maximum)
  end
  if note.malformed then
    item:add(field.malformed)
  end
  return note.name
end

function kinds.chunk(note, _, tree)
  local tvb = tab(note.bytes, "UDP payload")
  local item = tree:add(field.chunk, tvb())
  add_u64(item, field.stream, nil, note.stream):set_generated()
  if tvb:len() > 2 then
    add_udp(item, tvb(2))
  end
  return "UDP payload on the stream"
end

function kinds.forwarded(note, at, tree)
  local what = note.what
  local packet = at.udp
  local item = tree:add(field.forwarded, packet)
  item:add(field.forwarded_as, packet(1, what.length))
  item:add(field.original, Reader.hex(what.id)):set_generated()
  item:add(field.dialect, what.dialect):set_generated()
  item:add(field.transform, what.transform):set_generated()
  add_u64(item, field.stream, nil, what.stream):set_generated()
  item:add(field.outer, what.connection.number):set_generated()
  item:add(field.registered, what.frame):set_generated()
  return "forwarded"
end

-- Adds what was found in a packet: `notes`, and where the transport parameter is, if there is one;
-- `at` are the packet's Tvbs.
function show.packet(notes, parameter, at, pinfo, tree)
  if #notes == 0 and not parameter then
    return
  end
  local said = {}
  local root = tree:add(show.protocol)
  if parameter then
    root:add(field.parameter, parameter)
    said[1] = "server_alternate_address"
  end
  for _, note in ipairs(notes) do
    said[#said + 1] = kinds[note.kind](note, at, root)
  end
  pinfo.cols.info:append(" [" .. table.concat(said, ", ") .. "]")
end

return show
