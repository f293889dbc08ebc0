#include "daemon/liveness.h"

#include <utility>

#include "base/strings.h"

namespace crispd {

Liveness::Liveness(const Lanes* lanes, std::function<absl::Status()> check_services)
    : lanes_(lanes), check_services_(std::move(check_services)) {}

absl::Status Liveness::Check() {
  std::map<std::string, size_t> stuck;
  for (const base::Lane* lane : lanes_->All()) {
    const base::Lane::Load load = lane->load();
    if (load.queued > 0 && (load.idle > 0 || load.threads == 0)) {
      stuck[lane->name()] = load.queued;
      const auto before = stuck_.find(lane->name());
      if (before != stuck_.end() && before->second <= load.queued) {
        return absl::InternalError(base::StrCat("the ", lane->name(), " lane does not take its ",
                                                load.queued, " waiting requests"));
      }
    }
  }
  stuck_ = std::move(stuck);
  return check_services_ ? check_services_() : absl::OkStatus();
}

}  // namespace crispd
