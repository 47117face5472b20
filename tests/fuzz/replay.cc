// Runs a fuzz target over files, without libFuzzer: PROGRAM [--whole] PATH..., each a file or a
// directory.
//
// Each file is run whole and, unless with --whole, cut off at each of its bytes, in memory of that
// very size: with AddressSanitizer a read behind the end is seen.  A target that finds something
// ends the process.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace fs = std::filesystem;

namespace {

/// Longer files are run whole and cut off at their first bytes only: the time is quadratic.
constexpr std::size_t kMaxCuts = 1024;

bool Replay(const fs::path &path, bool whole) {
  std::ifstream file{path, std::ios::binary};
  const std::vector<char> content{std::istreambuf_iterator{file}, {}};
  if (!file.is_open() || file.bad()) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return false;
  }
  // For the log, should the target end the process.
  std::printf("%s\n", path.c_str());
  std::fflush(stdout);
  const auto run = [&](std::size_t size) {
    const std::vector<std::uint8_t> input(content.begin(),
                                          content.begin() + static_cast<std::ptrdiff_t>(size));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  };
  for (std::size_t size = 0; !whole && size < std::min(content.size(), kMaxCuts); ++size) {
    run(size);
  }
  run(content.size());
  return true;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<fs::path> files;
  const bool whole = argc > 1 && std::string_view{argv[1]} == "--whole";
  for (int i = whole ? 2 : 1; i < argc; ++i) {
    std::error_code error;
    if (fs::is_directory(argv[i], error)) {
      for (const auto &entry : fs::directory_iterator(argv[i], error)) {
        files.push_back(entry.path());
      }
    } else {
      files.emplace_back(argv[i]);
    }
  }
  if (files.empty()) {
    std::fprintf(stderr, "no inputs: %s FILE-OR-DIRECTORY...\n", argc > 0 ? argv[0] : "replay");
    return 2;
  }
  std::ranges::sort(files);
  const bool good =
      std::ranges::all_of(files, [&](const fs::path &file) { return Replay(file, whole); });
  std::printf("%zu inputs\n", files.size());
  return good ? 0 : 1;
}
