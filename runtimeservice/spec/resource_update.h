// Limits that change while a container lives: what an update means, and what is in force after it.
#pragma once

#include "proto/cri.h"
#include "runtimeservice/spec/host_facts.h"

namespace runtimeservice {

// `update` over what is in force: a field that is not given (0, empty) stays, hugepage limits are
// merged by page size and unified by file. A memory limit that comes without one of memory and swap
// keeps what that meant: no swap at all stays no swap. Pure.
cri::LinuxContainerResources MergeResources(const cri::LinuxContainerResources& in_force,
                                            const cri::LinuxContainerResources& update);

// What takes a failed `update` back: `before`, with what was not limited then as unlimited.
cri::LinuxContainerResources RevertResources(const cri::LinuxContainerResources& before,
                                             const cri::LinuxContainerResources& update);

// The values in force for what was asked: with the period of a quota, the swap of a limit, the
// least shares and the OOM score that the host allows. Pure.
cri::LinuxContainerResources EffectiveResources(cri::LinuxContainerResources resources,
                                                const HostFacts& host);

}  // namespace runtimeservice
