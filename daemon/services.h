// The wiring: every object behind the verbs, built from the configuration.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/launcher.h"
#include "daemon/config.h"
#include "daemon/lanes.h"
#include "proto/cri.h"

namespace crispd {

// The verbs that need nothing behind them, so that the daemon can be asked what it is.
class RuntimeVerbs {
 public:
  absl::StatusOr<cri::VersionResponse> Version(const base::Context&, const cri::VersionRequest&);
  absl::StatusOr<cri::StatusResponse> Status(const base::Context&, const cri::StatusRequest&);
  absl::StatusOr<cri::RuntimeConfigResponse> RuntimeConfig(const base::Context&,
                                                           const cri::RuntimeConfigRequest&);
  absl::StatusOr<cri::UpdateRuntimeConfigResponse> UpdateRuntimeConfig(
      const base::Context&, const cri::UpdateRuntimeConfigRequest&);
  using StopDone = std::function<void(absl::StatusOr<cri::StopContainerResponse>)>;
  void StopContainer(const base::Context&, const cri::StopContainerRequest&, StopDone done);
};

class ImageVerbs {};

// Owns what is behind the verbs. Destroyed after the server has stopped.
struct Services {
  std::unique_ptr<RuntimeVerbs> runtime;
  std::unique_ptr<ImageVerbs> image;
  // OK while the services' own threads make progress; asked before each ping to systemd's watchdog.
  // Never about the network or a runtime: a restart of the daemon would not help them.
  std::function<absl::Status()> check_alive;
};

// Builds everything and recovers what the last daemon left; serving starts when it returns.
// `config` is completed by ResolveHost, its root and runroot exist and are locked. The launcher and
// the lanes outlive the result.
absl::StatusOr<std::unique_ptr<Services>> BuildServices(const Config& config,
                                                        const base::Launcher& launcher,
                                                        Lanes* lanes);

}  // namespace crispd
