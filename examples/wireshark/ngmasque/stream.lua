-- One direction of one QUIC stream: pieces into bytes in order, and HTTP/3 frames (RFC 9114,
-- section 7).

local Reader = require("ngmasque.reader")

local Stream = {}
Stream.__index = Stream

-- Bytes that wait for what is missing before them, or for the rest of a frame other than DATA:
-- beyond it the stream is given up.
Stream.MAX_WAITING = 1048576

local DATA, HEADERS, SETTINGS = 0x00, 0x01, 0x04

function Stream.new()
  return setmetatable({ next = 0, pieces = {}, held = 0, waiting = "", data_left = 0 }, Stream)
end

local function give_up(self)
  self.given_up = true
  self.pieces, self.waiting = {}, ""
end

-- Takes a STREAM frame, and returns what is in order now and was not before.
function Stream:receive(offset, data)
  if self.given_up or offset + #data <= self.next then
    return ""
  end
  local piece = self.pieces[offset]
  if not piece or #piece < #data then
    self.held = self.held + #data - (piece and #piece or 0)
    self.pieces[offset] = data
  end
  if self.held > Stream.MAX_WAITING then
    give_up(self)
    return ""
  end
  local found = {}
  local progress = true
  while progress do
    progress = false
    for at, text in pairs(self.pieces) do
      if at <= self.next then
        self.pieces[at] = nil
        self.held = self.held - #text
        if at + #text > self.next then
          found[#found + 1] = text:sub(self.next - at + 1)
          self.next = at + #text
        end
        progress = true
      end
    end
  end
  return table.concat(found)
end

local function frame_header(r)
  return { type = r:varint(), length = r:varint() }
end

-- Parses `bytes` as HTTP/3 frames, with those that wait: `handler` has the functions data, headers
-- and settings.  What headers() returns "blocked" for is asked again with the next call.
function Stream:http3(bytes, handler)
  self.waiting = self.waiting .. bytes
  local r = Reader.new(self.waiting)
  while r:left() > 0 and not self.given_up do
    if self.data_left > 0 then
      local count = math.min(self.data_left, r:left())
      self.data_left = self.data_left - count
      handler.data(r:bytes(count))
    elseif self.skip and self.skip > 0 then
      local count = math.min(self.skip, r:left())
      self.skip = self.skip - count
      r:bytes(count)
    else
      local before = r.at
      local header = r:try(frame_header)
      if not header then
        break
      elseif header.type == DATA then
        self.data_left = header.length
      elseif header.type ~= HEADERS and header.type ~= SETTINGS then
        self.skip = header.length
      elseif header.length > Stream.MAX_WAITING then
        give_up(self)
        return
      elseif header.length > r:left() then
        r.at = before
        break
      else
        local value = r:bytes(header.length)
        local handle = header.type == HEADERS and handler.headers or handler.settings
        if handle(value) == "blocked" then
          r.at = before
          break
        end
      end
    end
  end
  self.waiting = r.text:sub(r.at)
end

return Stream
