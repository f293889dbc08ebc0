// The rows of a table of verbs. For runtime_rpcs.h and image_rpcs.h alone: their classes are
// templates over `Verbs` with the members service_, dispatcher_ and lanes_.
#pragma once

#include "daemon/dispatch.h"
#include "proto/cri.h"

// A verb and the lane it blocks on; null: answered from memory. A verb that `Verbs` has no
// handler for answers UNIMPLEMENTED by name.
#define CRISP_VERB(verb, lane)                                                                     \
  grpc::ServerUnaryReactor* verb(grpc::CallbackServerContext* context,                             \
                                 const cri::verb##Request* request, cri::verb##Response* response) \
      override {                                                                                   \
    if constexpr (requires(Verbs& s, const base::Context& c) { s.verb(c, *request); }) {           \
      return dispatcher_->Run(                                                                     \
          context, Verb{#verb, lane}, request, response,                                           \
          [this](const base::Context& c, const auto& r) { return service_->verb(c, r); });         \
    } else {                                                                                       \
      return dispatcher_->Unbuilt(context, #verb);                                                 \
    }                                                                                              \
  }

// A server-streaming verb without a handler.
#define CRISP_STREAM(verb, Request, Response)                                                      \
  grpc::ServerWriteReactor<cri::Response>* verb(grpc::CallbackServerContext*, const cri::Request*) \
      override {                                                                                   \
    return new UnbuiltStream<cri::Response>(#verb);                                                \
  }
