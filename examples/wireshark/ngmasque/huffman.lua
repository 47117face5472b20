-- The Huffman code of RFC 7541, appendix B.  It is canonical: the lengths say all of it.

-- Of symbols 0 to 255, in bits; "a" is 5.
local LENGTHS = "isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxx" .. "bffhibdgffdgdbbbaaabbbbbbbcdkbhf"
  .. "ibccccccccccccccccccccccdcdioijb" .. "kabababbbaccbbbabcbaabccccckgjix"
  .. "prpprrrsrssssststtrstssssqrsrsst" .. "rqprrssqsrrtqrssqqrqsrssprrrsrrs"
  .. "vvporsruvvvwwvtuoqvwwvwtqqvvxwww" .. "ptpqrqqsrruuttvsvwvvwwwwwxwwwwwv"

local LONGEST = 30

-- From a code with a 1 before it to its symbol
local symbols = {}
do
  local code = 0
  for length = 5, LONGEST do
    code = code * 2
    for symbol = 0, 255 do
      if LENGTHS:byte(symbol + 1) - 92 == length then
        symbols[2 ^ length + code] = string.char(symbol)
        code = code + 1
      end
    end
  end
end

-- The text that `data` is the code of; nil if it is not one.
return function(data)
  local text, code, length = {}, 1, 0
  for index = 1, #data do
    local byte = data:byte(index)
    for bit = 7, 0, -1 do
      code = code * 2 + math.floor(byte / 2 ^ bit) % 2
      length = length + 1
      if symbols[code] then
        text[#text + 1] = symbols[code]
        code, length = 1, 0
      elseif length == LONGEST then
        return nil
      end
    end
  end
  -- What is left is the beginning of EOS, which has nothing but ones.
  if length > 7 or code ~= 2 ^ (length + 1) - 1 then
    return nil
  end
  return table.concat(text)
end
