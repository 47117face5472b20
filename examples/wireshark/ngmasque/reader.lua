-- Takes integers and bytes off the front of a Lua string.  What goes beyond its end is an error of
-- Lua's, which `Reader.try` turns into nil.

local Reader = {}
Reader.__index = Reader

function Reader.new(text, first)
  return setmetatable({ text = text, at = first or 1 }, Reader)
end

-- How many bytes are left.
function Reader:left()
  return #self.text - self.at + 1
end

function Reader:bytes(count)
  if count > self:left() then
    error("truncated", 0)
  end
  self.at = self.at + count
  return self.text:sub(self.at - count, self.at - 1)
end

function Reader:byte()
  return self:bytes(1):byte()
end

-- Of `count` bytes, the most significant one first.
function Reader:uint(count)
  local value = 0
  for _, byte in ipairs({ self:bytes(count):byte(1, -1) }) do
    value = value * 256 + byte
  end
  return value
end

-- RFC 9000, section 16.  Above 2^53 the lowest bits are lost: Lua 5.2 has no integers.
function Reader:varint()
  local first = self:byte()
  local value = first % 64
  for _ = 2, 2 ^ math.floor(first / 64) do
    value = value * 256 + self:byte()
  end
  return value
end

-- RFC 7541, section 5.1, of which the first byte, `first`, is read already.
function Reader:prefixed(first, bits)
  local limit = 2 ^ bits - 1
  local value, factor = first % (limit + 1), 1
  if value < limit then
    return value
  end
  repeat
    local byte = self:byte()
    value = value + byte % 128 * factor
    factor = factor * 128
  until byte < 128
  return value
end

-- What `read` returns, or nil and with it where the reader was, if there is not all of it.
function Reader:try(read)
  local before = self.at
  local done, result = pcall(read, self)
  if done then
    return result
  end
  if result ~= "truncated" then
    error(result, 0)
  end
  self.at = before
  return nil
end

function Reader.hex(text)
  return (text:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

return Reader
