// Why no endpoint had what was asked for, and what that means as a whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace imageservice::worker {

// The failures of the endpoints asked for one thing, in their order.
//
// The one place that says which code the caller gets when they differ:
//
// 1. A refusal (UNAUTHENTICATED, PERMISSION_DENIED) of any of them: that is what the user can put
//    right. Registries say 404 as well to those who may not know.
// 2. Else the last one's: mirrors come first and the registry itself last, and only the registry
//    knows what exists. If it says NOT_FOUND, a mirror that is down does not make that
//    UNAVAILABLE; if it is down, a mirror's 404 means nothing.
class EndpointFailures {
 public:
  // `where` is a printable URL, empty when the status names it. The same failure twice counts once.
  void Add(std::string_view where, const absl::Status& status);
  void Clear() { failures_.clear(); }
  bool empty() const { return failures_.empty(); }

  // Whether asking again later may help: one of them is UNAVAILABLE.
  bool MayPass() const;

  // "WHERE: reason; WHERE: reason", with the code as above; OK when empty.
  absl::Status Combined() const;
  // The same as UNAVAILABLE.
  absl::Status AsUnavailable() const;

 private:
  struct Failure {
    std::string where;
    absl::Status status;
  };
  std::string Reasons() const;

  std::vector<Failure> failures_;
};

}  // namespace imageservice::worker
