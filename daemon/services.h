// The wiring: every object behind the verbs, built from the configuration.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/launcher.h"
#include "daemon/config.h"
#include "daemon/instance_lock.h"
#include "imageservice/image_service.h"
#include "imageservice/rootfs.h"
#include "network/detach_debts.h"
#include "network/pod_network.h"
#include "runtimeservice/runtime_service.h"

namespace crispd {

// What the dispatch calls.
using RuntimeVerbs = runtimeservice::RuntimeService;
using ImageVerbs = imageservice::ImageService;

// Owns what is behind the verbs. Destroyed after the server has stopped.
struct Services {
  Services() = default;
  ~Services();
  Services(const Services&) = delete;
  Services& operator=(const Services&) = delete;

  std::optional<InstanceLock> work_cgroup;
  std::optional<InstanceLock> pull_cgroup;
  // Each uses those above it.
  std::unique_ptr<network::PodNetwork> network;
  std::unique_ptr<imageservice::Rootfs> rootfs;
  std::unique_ptr<ImageVerbs> image;
  std::unique_ptr<network::DetachDebts> debts;
  std::unique_ptr<RuntimeVerbs> runtime;

  // OK while the services' own threads make progress; asked before each ping to systemd's watchdog.
  // Never about the network or a runtime: a restart of the daemon would not help them.
  std::function<absl::Status()> check_alive;

  // The pulls under way as JSON, for `crisp status`.
  std::string PullsJson() const;
  // What is damaged in the image store, likewise.
  std::string ImageProblemsJson() const;
};

// Ends what the last daemon's helpers still do, builds everything and recovers; serving starts when
// it returns. `config` is completed by ResolveHost, its root and runroot exist and are locked. The
// launcher outlives the result.
absl::StatusOr<std::unique_ptr<Services>> BuildServices(const Config& config,
                                                        const base::Launcher& launcher);

}  // namespace crispd
