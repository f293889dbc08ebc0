#include "daemon/crisp_rpcs.h"

#include "proto/crisp.grpc.pb.h"

namespace crispd {
namespace {

using crisp::v1::Event;

class CrispRpcs final : public crisp::v1::Images::CallbackService {
 public:
  CrispRpcs(ImageVerbs* service, Dispatcher* dispatcher, Lanes* lanes)
      : service_(service), dispatcher_(dispatcher), lanes_(lanes) {}

  grpc::ServerWriteReactor<Event>* Pull(grpc::CallbackServerContext* context,
                                        const crisp::v1::PullRequest* request) override {
    return Run(context, "Pull", request, &ImageVerbs::Pull);
  }
  grpc::ServerWriteReactor<Event>* Load(grpc::CallbackServerContext* context,
                                        const crisp::v1::LoadRequest* request) override {
    return Run(context, "Load", request, &ImageVerbs::Load);
  }
  grpc::ServerWriteReactor<Event>* Save(grpc::CallbackServerContext* context,
                                        const crisp::v1::SaveRequest* request) override {
    return Run(context, "Save", request, &ImageVerbs::Save);
  }

 private:
  template <typename Request>
  grpc::ServerWriteReactor<Event>* Run(grpc::CallbackServerContext* context,
                                       std::string_view method, const Request* request,
                                       absl::Status (ImageVerbs::*verb)(const base::Context&,
                                                                        const Request&,
                                                                        const ImageVerbs::Emit&)) {
    return dispatcher_->RunStream<Event>(
        context, Verb{method, &lanes_->pull}, request,
        [service = service_, verb](const base::Context& ctx, const Request& r,
                                   const ImageVerbs::Emit& emit) {
          return (service->*verb)(ctx, r, emit);
        },
        [](const Event& event) { return event.has_progress(); });
  }

  ImageVerbs* const service_;
  Dispatcher* const dispatcher_;
  Lanes* const lanes_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeCrispRpcs(ImageVerbs* service, Dispatcher* dispatcher,
                                             Lanes* lanes) {
  return std::make_unique<CrispRpcs>(service, dispatcher, lanes);
}

}  // namespace crispd
