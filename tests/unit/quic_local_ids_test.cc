// The connection IDs that a server chooses.

#include "../../plugin/quic/local_ids.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include <gnutls/crypto.h>

namespace {

using ngmasque::LocalIds;
using Id = std::vector<std::uint8_t>;

constexpr std::size_t kLength = 17;

bool Random(std::span<std::uint8_t> out) {
  return gnutls_rnd(GNUTLS_RND_NONCE, out.data(), out.size()) == 0;
}

LocalIds::Secrets Secrets(std::uint8_t number) {
  LocalIds::Secrets secrets{.worker = {.k0 = number, .k1 = 7}};
  secrets.reset.fill(number);
  return secrets;
}

TEST(LocalIds, EveryWorkerIsReadBack) {
  const LocalIds ids(kLength, Secrets(1), Random);
  const LocalIds others(kLength, Secrets(1), Random);
  for (unsigned worker = 0; worker < 256; ++worker) {
    Id id(kLength);
    ASSERT_TRUE(ids.Draw(static_cast<std::uint8_t>(worker), id));
    EXPECT_EQ(ids.WorkerOf(id), worker);
    EXPECT_EQ(others.WorkerOf(id), worker) << "another one with the same key";
  }
}

TEST(LocalIds, WithoutTheKeyTheNumberIsNotSeen) {
  const LocalIds ids(kLength, Secrets(1), Random);
  const LocalIds others(kLength, Secrets(2), Random);
  std::set<std::uint8_t> first;
  std::set<std::uint8_t> read;
  for (int i = 0; i < 1000; ++i) {
    Id id(kLength);
    ASSERT_TRUE(ids.Draw(5, id));
    first.insert(id[0]);
    read.insert(others.WorkerOf(id).value());
  }
  // 250 of 256 values on average, by chance; one or a few of them if it could be seen.
  EXPECT_GT(first.size(), 200u);
  EXPECT_GT(read.size(), 200u);
}

TEST(LocalIds, EachIsAnother) {
  const LocalIds ids(kLength, Secrets(1), Random);
  std::set<Id> drawn;
  for (int i = 0; i < 1000; ++i) {
    Id id(kLength);
    ASSERT_TRUE(ids.Draw(0, id));
    EXPECT_TRUE(drawn.insert(id).second);
  }
}

TEST(LocalIds, OtherLengthsAreNobodys) {
  const LocalIds ids(kLength, Secrets(1), Random);
  for (const std::size_t length : {std::size_t{0}, kLength - 1, kLength + 1}) {
    Id id(length);
    EXPECT_FALSE(ids.Draw(0, id));
    EXPECT_EQ(ids.WorkerOf(id), std::nullopt);
  }
}

TEST(LocalIds, NoRandomBytesNoId) {
  const LocalIds ids(kLength, Secrets(1), [](std::span<std::uint8_t>) { return false; });
  Id id(kLength);
  EXPECT_FALSE(ids.Draw(0, id));
}

TEST(LocalIds, ResetTokensAreOfTheSecretAndTheId) {
  const LocalIds ids(kLength, Secrets(1), Random);
  Id id(kLength);
  ASSERT_TRUE(ids.Draw(0, id));
  const auto token = [](const LocalIds &of, const Id &for_id) {
    const auto made = of.ResetToken(for_id).value();
    return Id(std::begin(made.data), std::end(made.data));
  };
  EXPECT_EQ(token(ids, id), token(LocalIds(kLength, Secrets(1), Random), id));
  EXPECT_NE(token(ids, id), token(LocalIds(kLength, Secrets(2), Random), id));
  auto other = id;
  other.back() ^= 1;
  EXPECT_NE(token(ids, id), token(ids, other));
  EXPECT_EQ(ids.ResetToken(Id(21)), std::nullopt) << "no ID of version 1";
}

} // namespace
