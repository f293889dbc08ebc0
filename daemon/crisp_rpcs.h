// The verbs of crisp.v1.Images, which the command line calls (proto/crisp.proto).
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "daemon/dispatch.h"
#include "daemon/lanes.h"
#include "daemon/services.h"

namespace crispd {

// As MakeImageRpcs. All verbs block on the lane of the pulls.
std::unique_ptr<grpc::Service> MakeCrispRpcs(ImageVerbs* service, Dispatcher* dispatcher,
                                             Lanes* lanes);

}  // namespace crispd
