#include "base/status_macros.h"

#include <cerrno>
#include <cstring>

#include "base/strings.h"

namespace base {

absl::Status Annotate(absl::Status status, std::string_view what) {
  if (status.ok()) {
    return status;
  }
  return absl::Status(status.code(), StrCat(what, ": ", ToStd(status.message())));
}

absl::Status ErrnoStatus(int error, std::string_view what) {
  char buffer[128];
  const std::string message = StrCat(what, ": ", strerror_r(error, buffer, sizeof(buffer)));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case ETIMEDOUT:
      return absl::DeadlineExceededError(message);
    default:
      return absl::UnknownError(message);
  }
}

}  // namespace base
