// What must be true of a daemon's image store on disk whatever has happened to it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "test/integration/fixture.h"

namespace test {

// What a layer's directory holds, as one text: names, types, owners, modes, times, attributes and
// contents.
std::string LayerContent(const std::string& directory);

// Pulls from the registry of the test and looks at the disk below the daemon's root.
class ImageStoreTest : public IntegrationTest {
 protected:
  std::string Root(std::string_view name) const;
  std::vector<std::string> Names(std::string_view folder) const;
  // The verbs for an image named in full.
  absl::StatusOr<std::string> PullFull(const std::string& name) const;
  absl::Status RemoveImage(const std::string& name) const;
  absl::StatusOr<cri::ImageStatusResponse> ImageStatus(const std::string& name) const;
  absl::StatusOr<std::vector<cri::Image>> Images() const;
  absl::StatusOr<cri::ImageFsInfoResponse> FsInfo() const;

  // Remembers the content of the layers that are there now as what they are to hold for ever.
  void RememberLayers();
  // Everything wrong with the store once it is at rest, in words: a listed image without a layer, a
  // layer that is not as remembered, one without a record, something in staging/ or trash/, a
  // helper process, figures that a walk does not confirm. Waits for unlinks and dying
  // processes.
  std::vector<std::string> StoreFaults() const;

 private:
  void AddImageFaults(std::vector<std::string>* faults) const;
  std::string UsageFault() const;
  std::vector<std::string> Leavings() const;

  std::map<std::string, std::string> content_;  // By chain ID.
};

}  // namespace test
