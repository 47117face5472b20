// ClientTunnel against its model: random connection IDs, responses, ends of streams, and packets.

#include "session_client_model.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

class Trial {
public:
  Trial(std::uint64_t seed, ClientTally &tally)
    : random_(seed), source_(random_), model_(Key(), Options(), Limits(), tally) {
    while (pool_.size() < 14) {
      pool_.push_back(Id(source_.Draw()));
    }
  }

  void Steps(int count) {
    while (count-- > 0 && !testing::Test::HasFatalFailure()) {
      Step();
      model_.Invariants();
      Packets();
    }
  }

private:
  std::size_t Below(std::size_t n) { return random_() % n; }

  HashKey Key() { return {.k0 = random_(), .k1 = random_()}; }

  Draft00Options Options() {
    return {.authority = {"target.example", 443},
            .flow = 2 * Below(3),
            .forward = Below(8) != 0,
            .datagrams = Below(16) != 0};
  }

  ClientTunnelLimits Limits() {
    if (Below(3) != 0) {
      return {};
    }
    return {.max_mappings = 1 + Below(5), .max_refused = Below(4)};
  }

  const ConnectionId &AnyId() { return pool_[Below(pool_.size())]; }

  // Of a request that there is, was or is not.
  RequestId AnyRequest() { return Below(model_.next() + 2); }

  void Step() {
    const auto what = Below(100);
    if (what < 5) {
      model_.Start(AnyId());
    } else if (what < 15) {
      model_.AddClientId(AnyId());
    } else if (what < 18) {
      model_.RemoveClientId(AnyId());
    } else if (what < 40) {
      model_.AddServerId(AnyId());
    } else if (what < 48) {
      model_.RemoveServerId(AnyId());
    } else if (what < 55) {
      model_.AddOuterId(AnyId());
    } else if (what < 58) {
      model_.RemoveOuterId(AnyId());
    } else if (what < 95) {
      model_.Respond(AnyRequest(), AnyAnswer());
    } else if (what < 99) {
      model_.Ended(AnyRequest());
    } else if (Below(8) == 0) {
      model_.Close();
    }
  }

  // More often a good one for the first request: without that nothing else happens.
  Answer AnyAnswer() {
    Answer answer;
    switch (Below(model_.opened() ? 8 : 20)) {
    case 0: answer.status = 409; break;
    case 1: answer.status = Below(2) == 0 ? 403 : 503; break;
    case 2: answer.malformed = Below(2) == 0; break;
    case 3: answer.without_id = true; break;
    case 4: answer.flow_offset = 2; break;
    case 5: answer.other_id = AnyId(); break;
    default: break;
    }
    return answer;
  }

  void Packets() {
    const auto &id = AnyId();
    Bytes rest(id.bytes().begin(), id.bytes().end());
    for (auto more = Below(4); more > 0; --more) {
      rest.push_back(Below(2) == 0 ? 'a' : 'b');
    }
    model_.Packets(id, rest);
  }

  std::mt19937_64 random_;
  IdSource source_;
  std::vector<ConnectionId> pool_; // Few, so that they meet each other.
  ClientModel model_;
};

TEST(ClientTunnelRandom, AgainstModel) {
  ClientTally tally;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Trial(seed, tally).Steps(150);
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
  }
  // Everything has happened.
  for (int reason = 0; reason <= static_cast<int>(Fallback::kRequestEnded); ++reason) {
    EXPECT_GT(tally.fell_back[Fallback(reason)], 50) << ReasonName(Fallback(reason));
  }
  for (const auto count :
       {tally.forwarded, tally.tunnelled, tally.received, tally.released, tally.discarded,
        tally.closed, tally.opened, tally.failed, tally.retried, tally.ended}) {
    EXPECT_GT(count, 50);
  }
}

} // namespace
} // namespace ngmasque
