// The verbs of runtime.v1.ImageService: which handler, which lane.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "daemon/dispatch.h"
#include "daemon/lanes.h"
#include "daemon/services.h"
#include "daemon/verb_table.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"

namespace crispd {

// As RuntimeRpcs.
template <typename Verbs>
class ImageRpcs final : public cri::ImageService::CallbackService {
 public:
  ImageRpcs(Verbs* service, Dispatcher* dispatcher, Lanes* lanes)
      : service_(service), dispatcher_(dispatcher), lanes_(lanes) {}

  CRISP_VERB(ListImages, nullptr)
  CRISP_VERB(ImageStatus, nullptr)
  CRISP_VERB(PullImage, &lanes_->pull)
  CRISP_VERB(RemoveImage, &lanes_->runtime)
  CRISP_VERB(ImageFsInfo, &lanes_->runtime)
  CRISP_STREAM(StreamImages, StreamImagesRequest, StreamImagesResponse)

 private:
  Verbs* const service_;
  Dispatcher* const dispatcher_;
  Lanes* const lanes_;
};

// The image verbs of the real service.
std::unique_ptr<grpc::Service> MakeImageRpcs(ImageVerbs* service, Dispatcher* dispatcher,
                                             Lanes* lanes);

}  // namespace crispd
