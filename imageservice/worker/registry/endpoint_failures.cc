#include "imageservice/worker/registry/endpoint_failures.h"

#include <algorithm>

#include "base/strings.h"

namespace imageservice::worker {

void EndpointFailures::Add(std::string_view where, const absl::Status& status) {
  const auto is_same = [&](const Failure& failure) {
    return failure.where == where && failure.status == status;
  };
  std::erase_if(failures_, is_same);
  failures_.push_back({std::string(where), status});
}

bool EndpointFailures::MayPass() const {
  return std::ranges::any_of(
      failures_, [](const Failure& failure) { return absl::IsUnavailable(failure.status); });
}

absl::Status EndpointFailures::Combined() const {
  if (failures_.empty()) {
    return absl::OkStatus();
  }
  absl::StatusCode code = failures_.back().status.code();
  const auto refusal = std::ranges::find_if(failures_, [](const Failure& failure) {
    return absl::IsUnauthenticated(failure.status) || absl::IsPermissionDenied(failure.status);
  });
  if (refusal != failures_.end()) {
    code = refusal->status.code();
  }
  return absl::Status(code, Reasons());
}

absl::Status EndpointFailures::AsUnavailable() const { return absl::UnavailableError(Reasons()); }

std::string EndpointFailures::Reasons() const {
  std::string reasons;
  for (const Failure& failure : failures_) {
    reasons +=
        base::StrCat(reasons.empty() ? "" : "; ", failure.where, failure.where.empty() ? "" : ": ",
                     base::ToStd(failure.status.message()));
  }
  return reasons;
}

}  // namespace imageservice::worker
