#include "daemon/instance_lock.h"

#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace crispd {

absl::StatusOr<InstanceLock> InstanceLock::Acquire(const std::string& directory) {
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  const std::string path = base::StrCat(directory, "/lock");
  ASSIGN_OR_RETURN(base::UniqueFd file, base::Open(path, O_RDWR | O_CREAT | O_CLOEXEC));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return base::ErrnoStatus(errno, base::StrCat("lock ", path));
    }
    const absl::StatusOr<std::string> holder = base::ReadFile(path, 64);
    return absl::FailedPreconditionError(
        base::StrCat(directory, " is in use by another crisp, pid ",
                     holder.ok() ? absl::StripSuffix(*holder, "\n") : "unknown"));
  }
  if (ftruncate(file.get(), 0) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  RETURN_IF_ERROR(base::WriteAll(file.get(), base::StrCat(getpid(), "\n"), path));
  return InstanceLock(std::move(file));
}

absl::StatusOr<InstanceLock> InstanceLock::AcquireDirectory(const std::string& directory) {
  ASSIGN_OR_RETURN(base::UniqueFd file, base::Open(directory, O_RDONLY | O_DIRECTORY));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? absl::FailedPreconditionError(
                                      base::StrCat(directory, " is in use by another crisp"))
                                : base::ErrnoStatus(errno, base::StrCat("lock ", directory));
  }
  return InstanceLock(std::move(file));
}

}  // namespace crispd
