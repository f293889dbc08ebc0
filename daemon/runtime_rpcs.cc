#include "daemon/runtime_rpcs.h"

namespace crispd {

std::unique_ptr<grpc::Service> MakeRuntimeRpcs(RuntimeVerbs* service, Dispatcher* dispatcher,
                                               Lanes* lanes, StatusInfo status_info) {
  return std::make_unique<RuntimeRpcs<RuntimeVerbs>>(service, dispatcher, lanes,
                                                     std::move(status_info));
}

}  // namespace crispd
