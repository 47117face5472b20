-- Wireshark dissector for QUIC server migration and for UDP through HTTP/3: README.md says what it
-- shows.  It stands behind Wireshark's own QUIC dissector and reads what that has decrypted.

local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or "./"
package.path = folder .. "?.lua;" .. package.path

local frames = require("ngmasque.frames")
local Connection = require("ngmasque.connection")
local show = require("ngmasque.show")

-- Of each connection, and of each captured packet, as long as a file is open
local connections, flows, found = {}, {}, {}

local quic_frame = Field.new("quic.frame")
local connection_number = Field.new("quic.connection.number")
local parameter_type = Field.new("tls.quic.parameter.type")
local udp_payload = Field.new("udp.payload")

show.protocol.init = function()
  connections, flows, found = {}, {}, {}
end

-- A captured packet, to which is added what is to be shown of it
local Packet = {}
Packet.__index = Packet

function Packet:note(what)
  self.notes[#self.notes + 1] = what
end

-- The decrypted payloads of this packet: its QUIC packets', each with a Tvb of its own.
local function payloads()
  local all = {}
  for _, field in ipairs({ quic_frame() }) do
    if field.offset == 0 then
      all[#all + 1] = field.source
    end
  end
  return all
end

local function key(from, to)
  return from .. ">" .. to
end

-- What Wireshark has decrypted: a connection whose keys there are.
local function read_decrypted(packet, all, from, to)
  local number = connection_number().value
  local connection = connections[number]
  if not connection then
    connection = Connection.new(number)
    connections[number] = connection
  end
  local sender = connection:sender(from, to)
  flows[key(from, to)] = flows[key(from, to)] or {}
  flows[key(from, to)][number] = { connection, sender }
  flows[key(to, from)] = flows[key(to, from)] or {}
  flows[key(to, from)][number] = { connection, sender == "client" and "server" or "client" }
  for index, payload in ipairs(all) do
    for _, frame in ipairs(frames.read(payload:raw())) do
      frame.payload = index
      if frame.kind == "stream" then
        connection:on_stream(sender, frame, packet)
      elseif frame.kind == "alternate" or frame.kind == "unknown" then
        packet:note(frame)
      else
        frame.datagram = connection:read_datagram(frame.data)
        -- The payload is in the packet, and need not be kept.
        frame.length, frame.data = #frame.data, nil
        packet:note(frame)
      end
    end
  end
end

-- The frames of this project's own that are in a packet of another connection
local function note_alternate(packet, all)
  for index, payload in ipairs(all) do
    for _, frame in ipairs(frames.read(payload:raw())) do
      if frame.kind == "alternate" or frame.kind == "unknown" then
        frame.payload = index
        packet:note(frame)
      end
    end
  end
end

local function find_forwarded(from, to, data)
  for _, pair in pairs(flows[key(from, to)] or {}) do
    local what = pair[1]:forwarded(pair[2], data)
    if what then
      return what
    end
  end
end

local function read_packet(pinfo, all)
  local packet = setmetatable({ number = pinfo.number, notes = {} }, Packet)
  local from = tostring(pinfo.src) .. " " .. pinfo.src_port
  local to = tostring(pinfo.dst) .. " " .. pinfo.dst_port
  local udp = udp_payload()
  local what = udp and find_forwarded(from, to, udp.range:bytes():raw())
  if what then
    packet:note({ kind = "forwarded", what = what })
    -- One that went through unchanged has been decrypted as well.
    note_alternate(packet, all)
  elseif #all > 0 and connection_number() then
    read_decrypted(packet, all, from, to)
  end
  return packet.notes
end

function show.protocol.dissector(_, pinfo, tree)
  -- Wireshark dissects a packet again when somebody looks at it; what is known of connections is of
  -- the first time, when packets come in order.
  local all = payloads()
  if not pinfo.visited or not found[pinfo.number] then
    found[pinfo.number] = read_packet(pinfo, all)
  end
  local parameter
  for _, field in ipairs({ parameter_type() }) do
    if tonumber(tostring(field.value)) == frames.TRANSPORT_PARAMETER then
      parameter = field.range
    end
  end
  local udp = udp_payload()
  local at = { payloads = all, udp = udp and udp.range }
  show.packet(found[pinfo.number], parameter, at, pinfo, tree)
end

register_postdissector(show.protocol)
