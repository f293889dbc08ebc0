// Where things of pods and containers lie. All follow from ids, so that release and recovery need
// no list of what was done.
#pragma once

#include <string>

#include "base/id.h"

namespace runtimeservice {

// A plain value.
class Paths {
 public:
  Paths(std::string run_root, std::string netns_directory)
      : run_root_(std::move(run_root)), netns_directory_(std::move(netns_directory)) {}

  const std::string& run_root() const { return run_root_; }
  const std::string& netns_directory() const { return netns_directory_; }
  std::string Pods() const { return run_root_ + "/pods"; }
  std::string Pod(const base::PodId& id) const { return Pods() + "/" + id.str(); }
  std::string Shm(const base::PodId& id) const { return Pod(id) + "/shm"; }
  std::string AllNamespaces() const { return run_root_ + "/ns"; }
  std::string Namespaces(const base::PodId& id) const { return AllNamespaces() + "/" + id.str(); }
  std::string Netns(const base::PodId& id) const { return netns_directory_ + "/crisp-" + id.str(); }
  std::string Containers() const { return run_root_ + "/containers"; }
  // Bundle of the runtime and state directory of the monitor.
  std::string Container(const base::ContainerId& id) const { return Containers() + "/" + id.str(); }
  std::string Execs() const { return run_root_ + "/exec"; }
  // Folders of crisp-stream's instances (streaming/protocol.h).
  std::string Streams() const { return run_root_ + "/streams"; }

 private:
  std::string run_root_;
  std::string netns_directory_;
};

}  // namespace runtimeservice
