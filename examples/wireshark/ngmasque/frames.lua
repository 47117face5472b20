-- The frames of a decrypted QUIC packet: RFC 9000, section 19; RFC 9221; SERVER_ALTERNATE_ADDRESS.

local Reader = require("ngmasque.reader")

local frames = {}

-- The code points that this project has chosen: patches/README.md.
frames.SERVER_ALTERNATE_ADDRESS = 0x1f37163f
frames.TRANSPORT_PARAMETER = 0x0c506bb6

-- What follows the type: v an integer, l a length and as many bytes, c the same with a length of
-- one byte, p eight bytes, t sixteen.
local LAYOUTS = {
  [0x00] = "", [0x01] = "", [0x04] = "vvv", [0x05] = "vv", [0x06] = "vl", [0x07] = "l",
  [0x10] = "v", [0x11] = "vv", [0x12] = "v", [0x13] = "v", [0x14] = "v", [0x15] = "vv",
  [0x16] = "v", [0x17] = "v", [0x18] = "vvct", [0x19] = "v", [0x1a] = "p", [0x1b] = "p",
  [0x1c] = "vvl", [0x1d] = "vl", [0x1e] = "",
}

local READ = {
  v = function(r) r:varint() end,
  l = function(r) r:bytes(r:varint()) end,
  c = function(r) r:bytes(r:byte()) end,
  p = function(r) r:bytes(8) end,
  t = function(r) r:bytes(16) end,
}

local function skip_ack(r, ecn)
  r:varint()
  r:varint()
  local ranges = r:varint()
  for _ = 0, 2 * ranges + (ecn and 3 or 0) do
    r:varint()
  end
end

local function read_stream(r, type)
  local frame = { kind = "stream", offset = 0, fin = type % 2 == 1 }
  frame.stream = r:varint()
  if math.floor(type / 4) % 2 == 1 then
    frame.offset = r:varint()
  end
  local length = math.floor(type / 2) % 2 == 1 and r:varint() or r:left()
  frame.at = r.at
  frame.data = r:bytes(length)
  return frame
end

local function read_datagram(r, type)
  local length = type == 0x31 and r:varint() or r:left()
  return { kind = "datagram", at = r.at, data = r:bytes(length) }
end

-- Where each field is: {first byte, length}.
local function read_alternate_address(r, first)
  local frame = { kind = "alternate", at = first }
  local function field(name, read)
    local at = r.at
    frame[name] = read()
    frame[name .. "_at"] = { at, r.at - at }
  end
  field("sequence", function() return r:varint() end)
  field("ipv4", function() return r:bytes(4) end)
  field("ipv4_port", function() return r:uint(2) end)
  field("ipv6", function() return r:bytes(16) end)
  field("ipv6_port", function() return r:uint(2) end)
  field("id", function() return r:bytes(r:byte()) end)
  frame.id_at = { frame.id_at[1] + 1, frame.id_at[2] - 1 }
  field("token", function() return r:bytes(16) end)
  frame.length = r.at - first
  return frame
end

local function read_frame(r)
  local first = r.at
  local type = r:varint()
  if type == 0x02 or type == 0x03 then
    skip_ack(r, type == 0x03)
    return { kind = "other" }
  elseif type >= 0x08 and type <= 0x0f then
    return read_stream(r, type)
  elseif type == 0x30 or type == 0x31 then
    return read_datagram(r, type)
  elseif type == frames.SERVER_ALTERNATE_ADDRESS then
    return read_alternate_address(r, first)
  elseif not LAYOUTS[type] then
    return { kind = "unknown", at = first, length = r.at - first, type = type }
  end
  for letter in LAYOUTS[type]:gmatch(".") do
    READ[letter](r)
  end
  return { kind = "other" }
end

-- All frames of `payload` that the dissector shows something of: up to the first one that is cut off,
-- or that is not known, which is the last one then, as nobody knows where it ends.
function frames.read(payload)
  local found = {}
  local r = Reader.new(payload)
  while r:left() > 0 do
    local frame = r:try(read_frame)
    if not frame then
      break
    end
    if frame.kind ~= "other" then
      found[#found + 1] = frame
    end
    if frame.kind == "unknown" then
      frame.behind = r:left()
      break
    end
  end
  return found
end

-- What every version of QUIC shows of a packet without a key: RFC 8999.  Of a short header the
-- length of the connection ID is not to be seen.
function frames.invariants(packet)
  local r = Reader.new(packet)
  return r:try(function()
    local first = r:byte()
    if first < 0x80 then
      return { form = 0 }
    end
    local header = { form = 1, version = r:uint(4) }
    header.dcid = r:bytes(r:byte())
    header.scid = r:bytes(r:byte())
    return header
  end)
end

return frames
