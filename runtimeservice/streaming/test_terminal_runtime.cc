// For tests, in the place of an OCI runtime and the process that it starts: makes a terminal, sends
// its master to a socket and becomes the program with that terminal.
//
// usage: streaming_test_runtime SOCKET PROGRAM [ARGUMENT…]
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

bool SendMaster(const char* path, int master) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return false;
  }
  char name[] = "/dev/ptmx";
  iovec piece = {name, sizeof(name)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &master, sizeof(master));
  return sendmsg(fd, &message, 0) == static_cast<ssize_t>(sizeof(name));
}

}  // namespace

int main(int argc, char** argv) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (argc < 3 || master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
    return 125;
  }
  setsid();
  const int slave = open(ptsname(master), O_RDWR);
  if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) != 0 || !SendMaster(argv[1], master)) {
    return 125;
  }
  for (int fd = 0; fd < 3; ++fd) {
    dup2(slave, fd);
  }
  close(slave);
  close(master);
  execv(argv[2], argv + 2);
  return 127;
}
