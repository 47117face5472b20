#include "child.h"

#include "channel.h"
#include "harness.h"
#include "sanitizer.h"

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <format>
#include <iostream>

namespace harness {

namespace {

using testing::TestPartResult;

/// Sends what GoogleTest records in the child.  A listener rather than a reporter in GoogleTest's
/// place, so that HasFatalFailure() and what builds on it work in the child.
class Sender : public testing::EmptyTestEventListener {
public:
  explicit Sender(int fd) : fd_{fd} {}

  void OnTestPartResult(const TestPartResult &result) override {
    if (result.passed()) {
      return; // SUCCEED(); nobody shows it.
    }
    clean_ = false;
    Send(fd_, {.kind = Record::Kind::part,
               .part = {.type = result.type(),
                        .file = result.file_name() != nullptr ? result.file_name() : "",
                        .line = result.line_number(),
                        .message = result.message()}});
  }

  /// No failure and no skip so far.
  [[nodiscard]] bool clean() const { return clean_; }

private:
  int fd_;
  bool clean_ = true;
};

} // namespace

void RunCatching(const std::function<void()> &body) {
  try {
    body();
  } catch (const std::exception &e) {
    AddPart(TestPartResult::kFatalFailure, nullptr, -1,
            std::format("exception thrown: {}", e.what()));
  } catch (...) {
    AddPart(TestPartResult::kFatalFailure, nullptr, -1, "exception thrown, not a std::exception");
  }
}

void Flush() {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
}

void BeChild(int channel, const std::function<void()> &body) {
  const pid_t self = getpid();
  auto &listeners = testing::UnitTest::GetInstance()->listeners();
  // The runner prints, and if it is itself such a child, it also sends; twice would be wrong.
  delete listeners.Release(listeners.default_result_printer());
  static Sender *sender = nullptr;
  delete listeners.Release(sender);
  sender = new Sender{channel};
  listeners.Append(sender);

  RunCatching(body);
  Flush();
  if (getpid() != self) {
    // A process that the test itself forked and that returned from the test function.
    _exit(sender->clean() ? 0 : 1);
  }
  // A failed test's fatal assertion skipped its clean-up.
  if (sender->clean() && LeakFound()) {
    Send(channel, {.kind = Record::Kind::leak, .part = {}});
  }
  Send(channel, {.kind = Record::Kind::done, .part = {}});
  // Not exit(): what main() registered there is the runner's.
  _exit(0);
}

} // namespace harness
