-- Capsules: RFC 9297, section 3, and those for connection IDs of draft-ietf-masque-quic-proxy.

local Reader = require("ngmasque.reader")

local capsules = {}

capsules.DATAGRAM = 0

-- Longer values are left out, whatever type they are of, in bytes: a UDP payload and its context
-- ID.
capsules.MAX_VALUE = 65535 + 8

local CLIENT = { "reason", "id_to_end" }
-- What each has in it, in order.  Names are the draft's; before -08 there was no Reason.
local LAYOUTS = {
  REGISTER_CLIENT_CID = CLIENT,
  REGISTER_TARGET_CID = { "reason", "id", "token" },
  ACK_CLIENT_CID = { "id", "virtual_id" },
  ACK_CLIENT_VCID = { "id", "virtual_id", "token" },
  ACK_TARGET_CID = { "id", "virtual_id", "token" },
  REJECT_CLIENT_CID = CLIENT,
  REJECT_TARGET_CID = CLIENT,
  CLOSE_CLIENT_CID = CLIENT,
  CLOSE_TARGET_CID = CLIENT,
  MAX_CONNECTION_IDS = { "maximum" },
}
local OLD = { "REGISTER_CLIENT_CID", "REGISTER_TARGET_CID", "ACK_CLIENT_CID", "ACK_CLIENT_VCID",
  "ACK_TARGET_CID", "CLOSE_CLIENT_CID", "CLOSE_TARGET_CID", "MAX_CONNECTION_IDS" }
local NEW = { "REGISTER_CLIENT_CID", "REGISTER_TARGET_CID", "ACK_CLIENT_CID", "ACK_CLIENT_VCID",
  "ACK_TARGET_CID", "REJECT_CLIENT_CID", "REJECT_TARGET_CID", "CLOSE_CLIENT_CID",
  "CLOSE_TARGET_CID", "MAX_CONNECTION_IDS" }
-- By revision: the first type, and what the types from there on are
local REVISIONS = {
  ["06"] = { first = 0xffe600, names = OLD, has_reason = false },
  ["08"] = { first = 0xffe700, names = OLD, has_reason = true },
  ["09"] = { first = 0xffe800, names = NEW, has_reason = true },
}

capsules.REASONS = { [0] = "DEFAULT", [1] = "TOO_SHORT", [2] = "CONFLICT" }

local TYPES = {}
for revision, what in pairs(REVISIONS) do
  for index, name in ipairs(what.names) do
    TYPES[what.first + index - 1] =
      { name = name, revision = revision, layout = LAYOUTS[name], has_reason = what.has_reason }
  end
end

function capsules.name(type)
  return type == capsules.DATAGRAM and "DATAGRAM" or TYPES[type] and TYPES[type].name
end

local FIELDS = {
  reason = function(r) return r:varint() end,
  maximum = function(r) return r:varint() end,
  id_to_end = function(r) return r:bytes(r:left()) end,
  id = function(r) return r:bytes(r:varint()) end,
  virtual_id = function(r) return r:bytes(r:varint()) end,
  token = function(r) return r:bytes(r:varint()) end,
}

-- What `whole`, a capsule of a known type from its type on, says: its fields, for each field where
-- it is ({first byte, length}), its name and revision.  `malformed` if it is cut off or has more in
-- it.
function capsules.read(whole)
  local r = Reader.new(whole)
  local capsule = { where = {} }
  local function field(name, as, read)
    local at = r.at
    local value = read(r)
    local length = type(value) == "string" and #value or r.at - at
    capsule[as] = value
    capsule.where[as] = { r.at - length, length }
  end
  field("type", "type", FIELDS.maximum)
  field("length", "length", FIELDS.maximum)
  capsule.name = capsules.name(capsule.type)
  if capsule.type == capsules.DATAGRAM then
    capsule.payload_at = r.at
    return capsule
  end
  local what = TYPES[capsule.type]
  capsule.revision = what.revision
  local complete = r:try(function()
    for _, name in ipairs(what.layout) do
      if name ~= "reason" or what.has_reason then
        field(name, name == "id_to_end" and "id" or name, FIELDS[name])
      end
    end
    return true
  end)
  capsule.malformed = not complete or r:left() > 0
  return capsule
end

return capsules
