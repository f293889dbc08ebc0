#include "daemon/image_rpcs.h"

namespace crispd {

std::unique_ptr<grpc::Service> MakeImageRpcs(ImageVerbs* service, Dispatcher* dispatcher,
                                             Lanes* lanes) {
  return std::make_unique<ImageRpcs<ImageVerbs>>(service, dispatcher, lanes);
}

}  // namespace crispd
