// What kernels, network devices and sandboxes refuse, for a program that is started with this in
// LD_PRELOAD: tests/e2e/refusing.py makes the environment and reads what is written.
//
//   REFUSE_GSO, REFUSE_ECN   errno for packets to be sent with that control message
//   REFUSE_GRO, REFUSE_RECV_ECN, REFUSE_PKTINFO
//                            errno for that option of a socket for receiving
//   REFUSE_ROOM              every so many packets there is no room: EAGAIN
//   REFUSE_LARGE             the most bytes that a packet can have, and
//   REFUSE_LARGE_ERROR       errno for longer ones
//   REFUSE_COUNTS            a directory: what was refused is in the file PID there at the end
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum kind { GSO, ECN, GRO, RECV_ECN, PKTINFO, ROOM, LARGE, LARGE_ERROR, KINDS };

static const char *const names[KINDS] = {"GSO",     "ECN",  "GRO",   "RECV_ECN",
                                         "PKTINFO", "ROOM", "LARGE", "LARGE_ERROR"};

// Descriptors beyond share the last counter.
#define MAX_FDS 256

static int setting[KINDS];
static unsigned refused[KINDS][MAX_FDS];
static unsigned taken;

static ssize_t (*next_sendmsg)(int, const struct msghdr *, int);
static int (*next_setsockopt)(int, int, int, const void *, socklen_t);

__attribute__((constructor)) static void start(void) {
  next_sendmsg = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
  next_setsockopt =
    (int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt");
  for (int kind = 0; kind < KINDS; ++kind) {
    char variable[32];
    snprintf(variable, sizeof(variable), "REFUSE_%s", names[kind]);
    const char *value = getenv(variable);
    setting[kind] = value ? atoi(value) : 0;
  }
}

// JSON: {"taken": N, "GSO": [total, most of one descriptor], ...}
__attribute__((destructor)) static void write_counts(void) {
  const char *directory = getenv("REFUSE_COUNTS");
  char path[512];
  snprintf(path, sizeof(path), "%s/%d", directory ? directory : ".", (int)getpid());
  FILE *file = directory ? fopen(path, "w") : NULL;
  if (!file) {
    return;
  }
  fprintf(file, "{\"taken\": %u", taken);
  for (int kind = 0; kind < KINDS; ++kind) {
    unsigned total = 0;
    unsigned most = 0;
    for (int fd = 0; fd < MAX_FDS; ++fd) {
      total += refused[kind][fd];
      most = refused[kind][fd] > most ? refused[kind][fd] : most;
    }
    fprintf(file, ", \"%s\": [%u, %u]", names[kind], total, most);
  }
  fputs("}\n", file);
  fclose(file);
}

static int refuse(enum kind kind, int fd, int error) {
  ++refused[kind][fd >= 0 && fd < MAX_FDS ? fd : MAX_FDS - 1];
  errno = error;
  return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  static unsigned packets;
  size_t segment = message->msg_iov->iov_len; // The programs have one for all that they send.
  struct msghdr *header = (struct msghdr *)message; // For the macros, which take no constant.
  for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control;
       control = CMSG_NXTHDR(header, control)) {
    if (setting[GSO] && control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_SEGMENT) {
      return refuse(GSO, fd, setting[GSO]);
    }
    if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_SEGMENT) {
      uint16_t value;
      memcpy(&value, CMSG_DATA(control), sizeof(value));
      segment = value;
    }
    if (setting[ECN] && ((control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS) ||
                         (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS))) {
      return refuse(ECN, fd, setting[ECN]);
    }
    // A kernel that knows no such option knows no such control message either.
    if (setting[PKTINFO] &&
        ((control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) ||
         (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO))) {
      return refuse(PKTINFO, fd, setting[PKTINFO]);
    }
  }
  int domain = 0;
  socklen_t size = sizeof(domain);
  const int internet =
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
    (domain == AF_INET || domain == AF_INET6);
  if (internet && setting[ROOM] && ++packets % (unsigned)setting[ROOM] == 0) {
    return refuse(ROOM, fd, EAGAIN);
  }
  if (internet && setting[LARGE] && segment > (size_t)setting[LARGE]) {
    return refuse(LARGE, fd, setting[LARGE_ERROR]);
  }
  taken += (unsigned)internet;
  return next_sendmsg(fd, message, flags);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
  if (setting[GRO] && level == SOL_UDP && name == UDP_GRO) {
    return refuse(GRO, fd, setting[GRO]);
  }
  if (setting[RECV_ECN] && ((level == IPPROTO_IP && name == IP_RECVTOS) ||
                            (level == IPPROTO_IPV6 && name == IPV6_RECVTCLASS))) {
    return refuse(RECV_ECN, fd, setting[RECV_ECN]);
  }
  if (setting[PKTINFO] && ((level == IPPROTO_IP && name == IP_PKTINFO) ||
                           (level == IPPROTO_IPV6 && name == IPV6_RECVPKTINFO))) {
    return refuse(PKTINFO, fd, setting[PKTINFO]);
  }
  return next_setsockopt(fd, level, name, value, size);
}
