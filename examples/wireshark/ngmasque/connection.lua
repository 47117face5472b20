-- What is known of one QUIC connection that carries UDP: its requests, the connection IDs that are
-- registered on it, and which addresses its ends have.

local Reader = require("ngmasque.reader")
local Stream = require("ngmasque.stream")
local Qpack = require("ngmasque.qpack")
local capsules = require("ngmasque.capsules")

local Connection = {}
Connection.__index = Connection

-- Directions are named by who sends.
local OTHER = { client = "server", server = "client" }

local CONTROL, QPACK_ENCODER = 0x00, 0x02
local QPACK_MAX_TABLE_CAPACITY = 0x01

function Connection.new(number)
  return setmetatable({
    number = number, sides = {}, streams = {}, requests = {}, flows = {},
    qpack = { client = Qpack.new(), server = Qpack.new() },
    -- By who sends packets with them: by length, by connection ID
    ids = { client = {}, server = {} },
  }, Connection)
end

-- Who sends a packet between these addresses.  The first one is the client's, and later one of the
-- two is known from before.
function Connection:sender(from, to)
  local side = self.sides[from] or OTHER[self.sides[to]] or "client"
  self.sides[from] = side
  self.sides[to] = self.sides[to] or OTHER[side]
  return side
end

-- A connection ID that stands before forwarded packets that `sender` sends.
function Connection:register(sender, id, what)
  if #id == 0 then
    return -- it is tunnelled, and nothing is forwarded
  end
  local lengths = self.ids[sender]
  lengths[#id] = lengths[#id] or {}
  what.length = #id
  lengths[#id][id] = what
end

-- Whose the connection ID of this packet from `sender` is.
function Connection:forwarded(sender, packet)
  if #packet < 2 or packet:byte() >= 0x80 then
    return nil
  end
  for length, ids in pairs(self.ids[sender]) do
    local what = ids[packet:sub(2, length + 1)]
    if what then
      return what
    end
  end
end

local function base64(text)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local out, bits, value = {}, 0, 0
  for letter in text:gmatch("[A-Za-z0-9+/]") do
    value = value * 64 + alphabet:find(letter, 1, true) - 1
    bits = bits + 6
    if bits >= 8 then
      bits = bits - 8
      out[#out + 1] = string.char(math.floor(value / 2 ^ bits))
      value = value % 2 ^ bits
    end
  end
  return table.concat(out)
end

-- The Byte Sequence of a field (RFC 8941, section 3.3.5), or nil
local function byte_sequence(value)
  local text = value and value:match("^:([A-Za-z0-9+/=]*):")
  return text and base64(text)
end

local function to_table(fields)
  local found = {}
  for _, field in ipairs(fields) do
    found[field[1]] = field[2]
  end
  return found
end

-- What a request asks for: nil if it is not for UDP.  What has a flow id is of the dialects before
-- RFC 9298.
local function classify(fields)
  if fields[":method"] == "CONNECT" and fields[":protocol"] == "connect-udp" then
    return { dialect = "rfc9298" }
  elseif fields[":method"] == "CONNECT-UDP" then
    return { dialect = "draft-00" }
  end
end

function Connection:on_request(id, list, packet)
  local fields = to_table(list)
  local request = classify(fields)
  if not request then
    return
  end
  request.stream = id
  request.client_id = byte_sequence(fields["client-connection-id"])
  request.server_id = byte_sequence(fields["server-connection-id"])
  self.requests[id] = request
  self.dialect = self.dialect or request.dialect
  packet:note({ kind = "request", stream = id, dialect = request.dialect, fields = list })
end

function Connection:on_response(id, list, packet)
  local request = self.requests[id]
  if not request then
    return
  end
  local fields = to_table(list)
  packet:note({ kind = "response", stream = id, dialect = request.dialect, fields = list })
  if not (fields[":status"] or ""):match("^2") then
    return
  end
  local forwarding = fields["proxy-quic-forwarding"] or ""
  request.transform = forwarding:match(';%s*transform="([%w-]+)"') or "identity"
  -- With draft-00 what is echoed is what is registered.
  local function echoed(name, cid, sender)
    if cid and byte_sequence(fields[name]) == cid then
      self:register(sender, cid, {
        id = cid, stream = id, dialect = "draft-00", transform = "identity", frame = packet.number,
        connection = self,
      })
    end
  end
  echoed("client-connection-id", request.client_id, "server")
  echoed("server-connection-id", request.server_id, "client")
end

function Connection:on_capsule(sender, request, whole, packet)
  local capsule = capsules.read(whole)
  capsule.kind, capsule.stream, capsule.bytes = "capsule", request.stream, whole
  packet:note(capsule)
  if capsule.malformed or sender ~= "server" then
    return
  end
  -- The proxy's answers: packets to the client begin with the one, those of the client with the
  -- other.
  local by = ({ ACK_CLIENT_CID = "server", ACK_TARGET_CID = "client" })[capsule.name]
  if by then
    self:register(by, capsule.virtual_id, {
      id = capsule.id, stream = request.stream, dialect = request.dialect,
      transform = request.transform, frame = packet.number, connection = self,
    })
  end
end

-- Content of a stream that negotiated capsules; `state` keeps what is incomplete.
local function read_capsules(state, data, on_capsule)
  state.rest = (state.rest or "") .. data
  while #state.rest > 0 do
    if (state.skip or 0) > 0 then
      local count = math.min(state.skip, #state.rest)
      state.skip, state.rest = state.skip - count, state.rest:sub(count + 1)
    else
      local r = Reader.new(state.rest)
      local header = r:try(function() return { type = r:varint(), length = r:varint() } end)
      if not header then
        return
      elseif not capsules.name(header.type) or header.length > capsules.MAX_VALUE then
        state.skip, state.rest = header.length, state.rest:sub(r.at)
      elseif header.length > r:left() then
        return
      else
        r:bytes(header.length)
        local whole = state.rest:sub(1, r.at - 1)
        state.rest = state.rest:sub(r.at)
        on_capsule(whole)
      end
    end
  end
end

-- The form of draft-00 for peers without datagrams: a length of two bytes, and a payload.
local function read_chunks(state, data, on_chunk)
  local r = Reader.new((state.rest or "") .. data)
  while true do
    local at = r.at
    local whole = r:try(function()
      r:bytes(r:uint(2))
      return r.text:sub(at, r.at - 1)
    end)
    if not whole then
      break
    end
    on_chunk(whole)
  end
  state.rest = r.text:sub(r.at)
end

function Connection:handler(sender, id, state, packet)
  return {
    data = function(data)
      local request = self.requests[id]
      if not request then
        return
      elseif request.dialect == "rfc9298" then
        read_capsules(state, data, function(whole)
          self:on_capsule(sender, request, whole, packet)
        end)
      else
        read_chunks(state, data, function(whole)
          packet:note({ kind = "chunk", stream = id, bytes = whole })
        end)
      end
    end,
    headers = function(section)
      local fields = self.qpack[sender]:fields(section)
      if fields == "blocked" then
        return "blocked"
      elseif fields then
        local handle = sender == "client" and self.on_request or self.on_response
        handle(self, id, fields, packet)
      end
    end,
    settings = function(value)
      local r = Reader.new(value)
      while r:left() > 0 do
        local setting = r:try(function() return { r:varint(), r:varint() } end)
        if not setting then
          break
        elseif setting[1] == QPACK_MAX_TABLE_CAPACITY then
          self.qpack[OTHER[sender]]:set_capacity(setting[2])
        end
      end
    end,
  }
end

-- A STREAM frame that `sender` has sent.
function Connection:on_stream(sender, frame, packet)
  local id = frame.stream
  local name = sender .. id
  local state = self.streams[name]
  if not state then
    state = Stream.new()
    self.streams[name] = state
  end
  local bytes = state:receive(frame.offset, frame.data)
  if #bytes == 0 then
    return
  elseif id % 4 == 0 then
    state:http3(bytes, self:handler(sender, id, state, packet))
  elseif id % 4 >= 2 then
    self:on_unidirectional(sender, state, bytes, packet)
  end
end

function Connection:on_unidirectional(sender, state, bytes, packet)
  if not state.type then
    local r = Reader.new(state.waiting .. bytes)
    state.type = r:try(r.varint)
    state.waiting, bytes = state.type and "" or r.text, r.text:sub(r.at)
  end
  if state.type == CONTROL then
    state:http3(bytes, self:handler(sender, -1, state, packet))
  elseif state.type == QPACK_ENCODER then
    self.qpack[sender]:instructions(bytes)
    -- Field sections may have waited for these.
    for name, other in pairs(self.streams) do
      local id = tonumber(name:match("^" .. sender .. "(%d+)$"))
      if id and id % 4 == 0 and #other.waiting > 0 then
        other:http3("", self:handler(sender, id, other, packet))
      end
    end
  end
end

-- Of which stream a datagram is, and where its payload begins, from 1 on: nil if its form is not
-- known, as no request has been seen.
function Connection:read_datagram(data)
  local r = Reader.new(data)
  return r:try(function()
    local datagram = { dialect = self.dialect or "unknown", first = r:varint() }
    datagram.first_length = r.at - 1
    if datagram.dialect == "rfc9298" then
      datagram.context = r:varint()
      datagram.context_length = r.at - 1 - datagram.first_length
    end
    datagram.payload_at = r.at
    return datagram
  end)
end

return Connection
