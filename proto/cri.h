// The CRI messages under one short name.
#pragma once

#include "proto/api.pb.h"

namespace cri = runtime::v1;
