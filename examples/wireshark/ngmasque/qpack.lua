-- QPACK (RFC 9204): field sections, with the static and the dynamic table.

local Reader = require("ngmasque.reader")
local huffman = require("ngmasque.huffman")

-- Appendix A, in order: names, each with its values where they follow each other
local NAMES = {
  { ":authority", "" }, { ":path", "/" }, { "age", "0" }, { "content-disposition", "" },
  { "content-length", "0" }, { "cookie", "" }, { "date", "" }, { "etag", "" },
  { "if-modified-since", "" }, { "if-none-match", "" }, { "last-modified", "" }, { "link", "" },
  { "location", "" }, { "referer", "" }, { "set-cookie", "" },
  { ":method", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT" },
  { ":scheme", "http", "https" }, { ":status", "103", "200", "304", "404", "503" },
  { "accept", "*/*", "application/dns-message" }, { "accept-encoding", "gzip, deflate, br" },
  { "accept-ranges", "bytes" }, { "access-control-allow-headers", "cache-control", "content-type" },
  { "access-control-allow-origin", "*" },
  { "cache-control", "max-age=0", "max-age=2592000", "max-age=604800", "no-cache", "no-store",
    "public, max-age=31536000" },
  { "content-encoding", "br", "gzip" },
  { "content-type", "application/dns-message", "application/javascript", "application/json",
    "application/x-www-form-urlencoded", "image/gif", "image/jpeg", "image/png", "text/css",
    "text/html; charset=utf-8", "text/plain", "text/plain;charset=utf-8" },
  { "range", "bytes=0-" },
  { "strict-transport-security", "max-age=31536000", "max-age=31536000; includesubdomains",
    "max-age=31536000; includesubdomains; preload" },
  { "vary", "accept-encoding", "origin" }, { "x-content-type-options", "nosniff" },
  { "x-xss-protection", "1; mode=block" },
  { ":status", "100", "204", "206", "302", "400", "403", "421", "425", "500" },
  { "accept-language", "" }, { "access-control-allow-credentials", "FALSE", "TRUE" },
  { "access-control-allow-headers", "*" },
  { "access-control-allow-methods", "get", "get, post, options", "options" },
  { "access-control-expose-headers", "content-length" },
  { "access-control-request-headers", "content-type" },
  { "access-control-request-method", "get", "post" }, { "alt-svc", "clear" },
  { "authorization", "" },
  { "content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'" },
  { "early-data", "1" }, { "expect-ct", "" }, { "forwarded", "" }, { "if-range", "" },
  { "origin", "" }, { "purpose", "prefetch" }, { "server", "" }, { "timing-allow-origin", "*" },
  { "upgrade-insecure-requests", "1" }, { "user-agent", "" }, { "x-forwarded-for", "" },
  { "x-frame-options", "deny", "sameorigin" },
}
local STATIC = {}
for _, entry in ipairs(NAMES) do
  for index = 2, #entry do
    STATIC[#STATIC + 1] = { entry[1], entry[index] }
  end
end

local function bit(byte, mask)
  return math.floor(byte / mask) % 2 == 1
end

-- A string whose Huffman bit stands before the prefix of its length
local function read_string(r, first, bits)
  local text = r:bytes(r:prefixed(first, bits))
  if bit(first, 2 ^ bits) then
    return huffman(text) or "(malformed)"
  end
  return text
end

local function static(index)
  return STATIC[index + 1] or { "(unknown)", "" }
end

-- The decoder of one direction of a connection.
local Decoder = {}
Decoder.__index = Decoder

-- How much of an instruction may wait for the rest of it, in bytes: beyond it what there is is
-- dropped, and names and values that come later may be wrong.
Decoder.MAX_INSTRUCTION = 65536

function Decoder.new()
  -- Entries are kept when they are evicted: each has a number of its own, and nothing refers to it.
  return setmetatable({ entries = {}, inserted = 0, waiting = "" }, Decoder)
end

-- The table's greatest capacity, as the decoder's end has said in its SETTINGS
function Decoder:set_capacity(capacity)
  self.capacity = capacity
end

function Decoder:insert(name, value)
  self.inserted = self.inserted + 1
  self.entries[self.inserted] = { name, value }
end

function Decoder:entry(absolute)
  return self.entries[absolute + 1] or { "(unknown)", "" }
end

-- Counted from the last one on
function Decoder:recent(index)
  return self:entry(self.inserted - 1 - index)
end

local function instruction(decoder)
  return function(r)
    local first = r:byte()
    if bit(first, 0x80) then
      local index = r:prefixed(first, 6)
      local entry = bit(first, 0x40) and static(index) or decoder:recent(index)
      decoder:insert(entry[1], read_string(r, r:byte(), 7))
    elseif bit(first, 0x40) then
      local name = read_string(r, first, 5)
      decoder:insert(name, read_string(r, r:byte(), 7))
    elseif bit(first, 0x20) then
      r:prefixed(first, 5) -- Set Dynamic Table Capacity
    else
      local entry = decoder:recent(r:prefixed(first, 5))
      decoder:insert(entry[1], entry[2])
    end
    return true
  end
end

-- What has come on the encoder stream
function Decoder:instructions(data)
  local r = Reader.new(self.waiting .. data)
  while r:left() > 0 and r:try(instruction(self)) do end
  self.waiting = r.text:sub(r.at)
  if #self.waiting > Decoder.MAX_INSTRUCTION then
    self.waiting = ""
  end
end

-- RFC 9204, section 4.5.1.1; nil when the capacity is not known.
function Decoder:required(encoded)
  if encoded == 0 then
    return 0
  end
  local most = math.floor((self.capacity or 0) / 32)
  if most == 0 then
    return nil
  end
  local range, limit = 2 * most, self.inserted + most
  local required = math.floor(limit / range) * range + encoded - 1
  if required > limit then
    required = required - range
  end
  return required
end

local function read_line(self, r, base)
  local first = r:byte()
  if bit(first, 0x80) then
    local index = r:prefixed(first, 6)
    return bit(first, 0x40) and static(index) or self:entry(base - 1 - index)
  elseif bit(first, 0x40) then
    local index = r:prefixed(first, 4)
    local name = (bit(first, 0x10) and static(index) or self:entry(base - 1 - index))[1]
    return { name, read_string(r, r:byte(), 7) }
  elseif bit(first, 0x20) then
    local name = read_string(r, first, 3)
    return { name, read_string(r, r:byte(), 7) }
  elseif bit(first, 0x10) then
    return self:entry(base + r:prefixed(first, 4))
  end
  local name = self:entry(base + r:prefixed(first, 3))[1]
  return { name, read_string(r, r:byte(), 7) }
end

-- The fields of `section`, {name, value} each.  "blocked" if it needs what has not come yet on the
-- encoder stream; nil if it is malformed.
function Decoder:fields(section)
  local r = Reader.new(section)
  local blocked = false
  local fields = r:try(function()
    local required = self:required(r:prefixed(r:byte(), 8))
    if not required or required > self.inserted then
      blocked = true
      return {}
    end
    local first = r:byte()
    local delta = r:prefixed(first, 7)
    local base = bit(first, 0x80) and required - delta - 1 or required + delta
    local found = {}
    while r:left() > 0 do
      found[#found + 1] = read_line(self, r, base)
    end
    return found
  end)
  if blocked then
    return "blocked"
  end
  return fields
end

return Decoder
