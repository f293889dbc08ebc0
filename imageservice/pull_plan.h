// From a CRI request and the node's configuration to what a pull worker is told.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/credentials.h"
#include "imageservice/pull_session.h"
#include "imageservice/registries_config.h"
#include "proto/cri.h"

namespace imageservice {

// What a plan is made from besides the request. Borrowed.
struct PullPolicy {
  const RegistriesConfig* registries = nullptr;
  const AuthFile* auth_file = nullptr;
  const std::vector<std::string>* insecure_registries = nullptr;
  const std::vector<std::string>* certificate_directories = nullptr;
};

// The servers to ask for `image`, in order: of each name it may stand for the mirrors, then the
// registry. An insecure server is asked by HTTPS without verification, then by HTTP. `auth` is
// shown where MayShow allows it, elsewhere what the auth file has. Reads certificate files.
absl::StatusOr<PullPlan> MakePullPlan(const std::string& image, const cri::AuthConfig& auth,
                                      const PullPolicy& policy);

// What this machine runs, in Go's names.
worker::Platform HostPlatform();

}  // namespace imageservice
