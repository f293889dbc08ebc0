// The names an image gets by its pull or load.
#pragma once

#include "imageservice/pull_session.h"
#include "imageservice/worker/protocol.h"
#include "proto/state.pb.h"

namespace imageservice {

// Adds to `record` the tags and digests under which `plan` has found `resolved`: the reference that
// was asked for, or what its archive calls it.
void NameImage(const PullPlan& plan, const worker::Resolved& resolved,
               crisp::state::ImageRecord* record);

}  // namespace imageservice
