#include "test/integration/hanging_mount.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace test {
namespace {

// Answers the kernel's first request.
absl::Status Initialize(int server) {
  std::vector<char> request(FUSE_MIN_READ_BUFFER);
  const ssize_t got = read(server, request.data(), request.size());
  if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) {
    return base::ErrnoStatus(errno, "read from /dev/fuse");
  }
  struct {
    fuse_out_header header;
    fuse_init_out body;
  } answer = {};
  answer.header.len = sizeof(answer);
  answer.header.unique = reinterpret_cast<const fuse_in_header*>(request.data())->unique;
  answer.body.major = FUSE_KERNEL_VERSION;
  answer.body.minor = FUSE_KERNEL_MINOR_VERSION;
  answer.body.max_write = 4096;
  if (write(server, &answer, sizeof(answer)) != sizeof(answer)) {
    return base::ErrnoStatus(errno, "write to /dev/fuse");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HangingMount> HangingMount::Make(const std::string& path) {
  absl::StatusOr<base::UniqueFd> server = base::Open("/dev/fuse", O_RDWR);
  if (!server.ok()) {
    return absl::FailedPreconditionError(server.status().message());
  }
  const std::string options =
      base::StrCat("fd=", server->get(), ",rootmode=40000,user_id=0,group_id=0,allow_other");
  if (mount("hanging", path.c_str(), "fuse", 0, options.c_str()) != 0) {
    return absl::FailedPreconditionError(base::ErrnoStatus(errno, "mount a FUSE").message());
  }
  HangingMount mounted(path, *std::move(server));
  RETURN_IF_ERROR(Initialize(mounted.server_.get()));
  return mounted;
}

bool HangingMount::SomebodyHangs(absl::Duration timeout) const {
  pollfd fd = {server_.get(), POLLIN, 0};
  return poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
}

}  // namespace test
