#include "channel.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace harness {

namespace {

/// Both ends are the same program, so this goes over the wire as it is in memory.
struct Header {
  Record::Kind kind;
  std::uint8_t type;
  std::uint32_t file_size;
  std::int32_t line;
  std::uint32_t count;
};

} // namespace

void Send(int fd, const Record &record) {
  const auto &part = record.part;
  const auto file_size = std::min(part.file.size(), kMaxRecordText);
  const auto message_size = std::min(part.message.size(), kMaxRecordText - file_size);
  Header header{
    .kind = record.kind,
    .type = static_cast<std::uint8_t>(part.type),
    .file_size = static_cast<std::uint32_t>(file_size),
    .line = part.line,
    .count = record.count,
  };
  std::array<iovec, 3> pieces{{
    {&header, sizeof(header)},
    {const_cast<char *>(part.file.data()), file_size},
    {const_cast<char *>(part.message.data()), message_size},
  }};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  while (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EMSGSIZE && pieces[2].iov_len > 0) {
      // A system with a small socket buffer.  The failure counts more than its whole text.
      pieces[2].iov_len /= 2;
    } else if (errno != EINTR) {
      break;
    }
  }
}

std::optional<Record> Receive(int fd, bool &again) {
  static std::array<char, sizeof(Header) + kMaxRecordText> buffer;
  ssize_t size;
  do {
    size = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  again = size < 0 && errno == EAGAIN;

  Header header;
  if (size < static_cast<ssize_t>(sizeof(header))) {
    return {};
  }
  std::memcpy(&header, buffer.data(), sizeof(header));
  std::string_view text{buffer.data() + sizeof(header),
                        static_cast<std::size_t>(size) - sizeof(header)};
  return Record{
    .kind = header.kind,
    .part =
      {
        .type = static_cast<testing::TestPartResult::Type>(header.type),
        .file = std::string{text.substr(0, header.file_size)},
        .line = header.line,
        .message = std::string{text.substr(std::min<std::size_t>(header.file_size, text.size()))},
      },
    .count = header.count,
  };
}

} // namespace harness
