#include "daemon/runtime_rpcs.h"

namespace crispd {

std::unique_ptr<grpc::Service> MakeRuntimeRpcs(RuntimeVerbs* service, Dispatcher* dispatcher,
                                               Lanes* lanes) {
  return std::make_unique<RuntimeRpcs<RuntimeVerbs>>(service, dispatcher, lanes);
}

}  // namespace crispd
