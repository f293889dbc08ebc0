// Passing errors on: absl::Status end to end, annotated on the way up with what was being done.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace base {

// Returns `status` with "`what`: " before its message; an OK status stays OK. The code is kept.
absl::Status Annotate(absl::Status status, std::string_view what);

// The status of a failed system call: "`what`: <strerror>". ENOENT becomes NOT_FOUND, EEXIST
// ALREADY_EXISTS, ENOSPC/EDQUOT/EMFILE RESOURCE_EXHAUSTED, ETIMEDOUT DEADLINE_EXCEEDED, others
// UNKNOWN.
absl::Status ErrnoStatus(int error, std::string_view what);

namespace status_internal {
inline absl::Status StatusOf(absl::Status status) { return status; }
template <typename T>
absl::Status StatusOf(absl::StatusOr<T>&& result) {
  return std::move(result).status();
}
}  // namespace status_internal
}  // namespace base

#define CRISP_CONCAT_INNER(a, b) a##b
#define CRISP_CONCAT(a, b) CRISP_CONCAT_INNER(a, b)

// Returns from the function with the status of `expr` unless it is OK.
#define RETURN_IF_ERROR(expr)                                     \
  do {                                                            \
    if (absl::Status crisp_status = (expr); !crisp_status.ok()) { \
      return crisp_status;                                        \
    }                                                             \
  } while (false)

// Assigns the value of the StatusOr `expr` to `lhs` (a declaration or a variable), or returns its
// status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(CRISP_CONCAT(crisp_result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                           \
  if (!result.ok()) {                             \
    return std::move(result).status();            \
  }                                               \
  lhs = *std::move(result)
