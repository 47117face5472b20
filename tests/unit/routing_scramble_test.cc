// The packet transform scramble-dt.

#include "ngmasque/routing/scramble.h"

#include "wire_support.h"

#include <gtest/gtest.h>
#include <nettle/aes.h>

#include <algorithm>
#include <array>

using namespace ngmasque;
using namespace wire_test;

namespace {

ScrambleKey Key(const Bytes &bytes) {
  ScrambleKey key{};
  EXPECT_EQ(bytes.size(), key.size());
  std::ranges::copy(bytes, key.begin());
  return key;
}

const ScrambleKey kKey =
  Key(Hex("f13a915f96fb8919d9d8655488ffea5778cac8cffbc27cd38c173bcbad955cff"));
const ScrambleKey kOther =
  Key(Hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));

constexpr std::size_t kIdLength = 20;
const Bytes kPlain = Hex("50 0123456789abcdef0123456789abcdef01234567"
                         "1ba3bed7043a21632023048def32f4f8 f260c290490413d24ea6");
const Bytes kScrambled = Hex("32 0123456789abcdef0123456789abcdef01234567"
                             "8ebe6906e16ec5fc90a02c0109994c3f ed03f9d5d88c5f408bb6");

Bytes Encoded(const Scramble &scramble, Bytes packet, std::size_t id_length) {
  EXPECT_TRUE(scramble.Encode(packet, id_length));
  return packet;
}

Bytes Decoded(const Scramble &scramble, Bytes packet, std::size_t id_length) {
  EXPECT_TRUE(scramble.Decode(packet, id_length));
  return packet;
}

Bytes EncryptBlock(std::span<const std::uint8_t> key, std::span<const std::uint8_t> block) {
  aes128_ctx ctx;
  aes128_set_encrypt_key(&ctx, key.data());
  Bytes out(AES_BLOCK_SIZE);
  aes128_encrypt(&ctx, out.size(), out.data(), block.data());
  return out;
}

// As the draft writes it, step by step, with a counter of its own.
Bytes Reference(const ScrambleKey &key, const Bytes &packet, std::size_t id_length) {
  const std::span all(packet);
  const auto k1 = std::span(key).first(16), k2 = std::span(key).subspan(16);
  const auto id = all.subspan(1, id_length), iv = all.subspan(1 + id_length, 16);
  auto text = Concat({all.first(1), all.subspan(17 + id_length)});
  auto counter = ToBytes(iv);
  for (std::size_t i = 0; i < text.size(); i += 16) {
    const auto stream = EncryptBlock(k1, counter);
    for (std::size_t k = i; k < std::min(i + 16, text.size()); ++k) {
      text[k] = static_cast<std::uint8_t>(text[k] ^ stream[k - i]);
    }
    for (std::size_t k = 16; k-- > 0 && ++counter[k] == 0;) {
    }
  }
  const Bytes header{static_cast<std::uint8_t>(text[0] & 0x7f)};
  return Concat({header, id, EncryptBlock(k2, iv), std::span(text).subspan(1)});
}

// A packet with a short header.
Bytes Packet(Random &random, std::size_t size) {
  auto packet = random.Some(size);
  packet[0] &= 0x7f;
  return packet;
}

} // namespace

TEST(RoutingScramble, KnownAnswer) {
  const Scramble sender{kKey, kOther}, receiver{kOther, kKey};
  EXPECT_EQ(Encoded(sender, kPlain, kIdLength), kScrambled);
  EXPECT_EQ(Decoded(receiver, kScrambled, kIdLength), kPlain);
}

TEST(RoutingScramble, EachSideHasItsOwnKey) {
  const Scramble a{kKey, kOther}, b{kOther, kKey};
  const auto from_a = Encoded(a, kPlain, kIdLength), from_b = Encoded(b, kPlain, kIdLength);
  EXPECT_NE(from_a, from_b);
  EXPECT_EQ(Decoded(b, from_a, kIdLength), kPlain);
  EXPECT_EQ(Decoded(a, from_b, kIdLength), kPlain);
  EXPECT_NE(Decoded(a, from_a, kIdLength), kPlain) << "what it sent is not what it receives";
}

TEST(RoutingScramble, AllLengthsOfConnectionIdsAndPackets) {
  Random random{41};
  SCOPED_TRACE(random);
  const Scramble sender{kKey, kOther}, receiver{kOther, kKey};
  for (std::size_t id_length = 0; id_length <= 20; ++id_length) {
    for (std::size_t size = 17 + id_length; size <= 1500; size += size < 120 ? 1 : 97) {
      const auto packet = Packet(random, size);
      const auto scrambled = Encoded(sender, packet, id_length);
      ASSERT_EQ(scrambled, Reference(kKey, packet, id_length)) << id_length << " " << size;
      ASSERT_EQ(Decoded(receiver, scrambled, id_length), packet) << id_length << " " << size;
    }
    const auto longest = Packet(random, 1500);
    ASSERT_EQ(Decoded(receiver, Encoded(sender, longest, id_length), id_length), longest);
  }
}

// Connection IDs of other versions of QUIC.
TEST(RoutingScramble, LongConnectionIds) {
  Random random{42};
  SCOPED_TRACE(random);
  const Scramble sender{kKey, kOther}, receiver{kOther, kKey};
  for (const std::size_t id_length : {21, 64, 255}) {
    const auto packet = Packet(random, 400);
    const auto scrambled = Encoded(sender, packet, id_length);
    EXPECT_EQ(scrambled, Reference(kKey, packet, id_length));
    EXPECT_EQ(Decoded(receiver, scrambled, id_length), packet);
  }
}

TEST(RoutingScramble, ConnectionIdStaysAndTheRestChanges) {
  Random random{43};
  SCOPED_TRACE(random);
  const Scramble sender{kKey, kOther};
  const auto packet = Packet(random, 200);
  const auto scrambled = Encoded(sender, packet, kIdLength);
  EXPECT_TRUE(std::ranges::equal(std::span(packet).subspan(1, kIdLength),
                                 std::span(scrambled).subspan(1, kIdLength)));
  int same = 0;
  for (std::size_t i = 1 + kIdLength; i < packet.size(); ++i) {
    same += packet[i] == scrambled[i];
  }
  EXPECT_LT(same, 12) << "of 179 bytes, where chance leaves less than one";
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# The counter is incremented by the
//# standard incrementing function
TEST(RoutingScramble, CounterCarriesThroughAllBits) {
  Random random{44};
  SCOPED_TRACE(random);
  const Scramble sender{kKey, kOther}, receiver{kOther, kKey};
  for (const auto *iv : {"000000000000000000000000fffffffe", "0000000000000000fffffffffffffffe",
                         "00000000fffffffffffffffffffffffe", "fffffffffffffffffffffffffffffffe",
                         "ffffffffffffffffffffffffffffff80", "00000000000000000000000000ffffff"}) {
    auto packet = Packet(random, 1 + kIdLength + 16 + 1200);
    std::ranges::copy(Hex(iv), packet.begin() + 1 + kIdLength);
    const auto scrambled = Encoded(sender, packet, kIdLength);
    EXPECT_EQ(scrambled, Reference(kKey, packet, kIdLength)) << iv;
    EXPECT_EQ(Decoded(receiver, scrambled, kIdLength), packet) << iv;
  }
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# This ensures that the Header Form bit
//# is zero, as required by the QUIC invariants
TEST(RoutingScramble, FormBitIsNeverSet) {
  Random random{45};
  SCOPED_TRACE(random);
  const Scramble scramble{kKey, kOther};
  std::array<int, 2> keystream{}; // By its first bit, of which there have to be both.
  for (int i = 0; i < 500; ++i) {
    // Whatever was in the packet.
    const auto packet = random.Some(64);
    EXPECT_EQ(Encoded(scramble, packet, 8)[0] & 0x80, 0);
    EXPECT_EQ(Decoded(scramble, packet, 8)[0] & 0x80, 0);
    ++keystream[EncryptBlock(std::span(kKey).first(16), std::span(packet).subspan(9, 16))[0] >> 7];
  }
  EXPECT_GT(keystream[0], 100);
  EXPECT_GT(keystream[1], 100);
}

TEST(RoutingScramble, FewerThan16BytesBehindTheConnectionId) {
  Random random{46};
  SCOPED_TRACE(random);
  const Scramble scramble{kKey, kOther};
  for (std::size_t id_length = 0; id_length <= 20; ++id_length) {
    for (std::size_t size = 0; size < 17 + id_length; ++size) {
      const auto packet = random.Some(size);
      auto copy = packet;
      EXPECT_FALSE(scramble.Encode(copy, id_length)) << id_length << " " << size;
      EXPECT_FALSE(scramble.Decode(copy, id_length)) << id_length << " " << size;
      EXPECT_EQ(copy, packet);
    }
    auto least = random.Some(17 + id_length);
    EXPECT_TRUE(scramble.Encode(least, id_length));
    EXPECT_TRUE(scramble.Decode(least, id_length));
  }
  // Where a sum of lengths would be too large for its type.
  auto packet = random.Some(40);
  EXPECT_FALSE(scramble.Encode(packet, ~std::size_t{0} - 16));
  EXPECT_FALSE(scramble.Decode(packet, ~std::size_t{0}));
}
