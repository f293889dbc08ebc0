#include "test/integration/image_checks.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string_view>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "imageservice/store/disk_usage.h"
#include "proto/state.pb.h"

namespace test {
namespace {

std::string AttributesOf(const std::string& path) {
  char names[4096];
  char value[4096];
  std::vector<std::string> attributes;
  const ssize_t length = llistxattr(path.c_str(), names, sizeof(names));
  for (ssize_t at = 0; at < length;) {
    const std::string_view name(names + at);
    const ssize_t size = lgetxattr(path.c_str(), names + at, value, sizeof(value));
    attributes.push_back(base::StrCat(
        name, "=", std::string_view(value, static_cast<size_t>(std::max<ssize_t>(size, 0)))));
    at += static_cast<ssize_t>(name.size()) + 1;
  }
  std::sort(attributes.begin(), attributes.end());
  std::string text;
  for (const std::string& attribute : attributes) text += " " + attribute;
  return text;
}

// `first` has the first name of each inode seen.
void AddContent(const std::string& path, const std::string& name,
                std::map<ino_t, std::string>* first, std::string* text) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) {
    *text += base::StrCat(name, " is not there\n");
    return;
  }
  *text += base::StrCat(name, " ", info.st_mode, " ", info.st_uid, ":", info.st_gid, " ",
                        info.st_rdev, AttributesOf(path));
  if (S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) {  // Whiteouts have the time of the pull.
    *text += base::StrCat(" ", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
  }
  const auto [seen, is_first] = first->try_emplace(info.st_ino, name);
  if (!is_first) {
    *text += base::StrCat(" = ", seen->second);
  } else if (S_ISREG(info.st_mode)) {
    *text += base::StrCat(" ", base::ReadFile(path).value_or("unreadable"));
  } else if (S_ISLNK(info.st_mode)) {
    char target[4096];
    const ssize_t size = readlink(path.c_str(), target, sizeof(target));
    *text += base::StrCat(
        " ", std::string_view(target, static_cast<size_t>(std::max<ssize_t>(size, 0))));
  }
  *text += "\n";
  if (!S_ISDIR(info.st_mode)) return;
  const auto entries = base::ListDirectory(path);
  if (!entries.ok()) return;
  for (const std::string& entry : *entries) {
    AddContent(path + "/" + entry, name + "/" + entry, first, text);
  }
}

// The beginning of the first line of `now` that is not as in `before`.
std::string FirstDifference(const std::string& now, const std::string& before) {
  const size_t at = static_cast<size_t>(
      std::mismatch(now.begin(), now.end(), before.begin(), before.end()).first - now.begin());
  const size_t line = at == 0 ? std::string::npos : now.rfind('\n', at - 1);
  return now.substr(line == std::string::npos ? 0 : line + 1, 200);
}

}  // namespace

std::string LayerContent(const std::string& directory) {
  std::string text;
  std::map<ino_t, std::string> first;
  AddContent(directory, "", &first, &text);
  return text;
}

std::string ImageStoreTest::Root(std::string_view name) const {
  return base::StrCat(environment().Get("ROOT"), "/", name);
}

std::vector<std::string> ImageStoreTest::Names(std::string_view folder) const {
  return base::ListDirectory(Root(folder)).value_or(std::vector<std::string>());
}

absl::StatusOr<std::string> ImageStoreTest::PullFull(const std::string& name) const {
  cri::PullImageRequest request;
  request.mutable_image()->set_image(name);
  ASSIGN_OR_RETURN(cri::PullImageResponse response, client().Call(&ImageStub::PullImage, request));
  return response.image_ref();
}

absl::Status ImageStoreTest::RemoveImage(const std::string& name) const {
  cri::RemoveImageRequest request;
  request.mutable_image()->set_image(name);
  return client().Call(&ImageStub::RemoveImage, request).status();
}

absl::StatusOr<cri::ImageStatusResponse> ImageStoreTest::ImageStatus(
    const std::string& name) const {
  cri::ImageStatusRequest request;
  request.mutable_image()->set_image(name);
  return client().Call(&ImageStub::ImageStatus, request);
}

absl::StatusOr<std::vector<cri::Image>> ImageStoreTest::Images() const {
  ASSIGN_OR_RETURN(cri::ListImagesResponse response,
                   client().Call(&ImageStub::ListImages, cri::ListImagesRequest()));
  return std::vector<cri::Image>(response.images().begin(), response.images().end());
}

absl::StatusOr<cri::ImageFsInfoResponse> ImageStoreTest::FsInfo() const {
  return client().Call(&ImageStub::ImageFsInfo, cri::ImageFsInfoRequest());
}

void ImageStoreTest::RememberLayers() {
  for (const std::string& chain_id : Names("layers")) {
    content_[chain_id] = LayerContent(Root("layers/" + chain_id));
  }
}

std::vector<std::string> ImageStoreTest::Leavings() const {
  std::vector<std::string> left;
  for (const char* folder : {"staging", "trash"}) {
    for (const std::string& name : Names(folder)) {
      left.push_back(base::StrCat(folder, "/", name));
    }
  }
  for (const pid_t pid : base::CgroupProcesses(environment().Get("CGROUP") + "/work")) {
    left.push_back(base::StrCat("process ", pid));
  }
  return left;
}

void ImageStoreTest::AddImageFaults(std::vector<std::string>* faults) const {
  const auto images = Images();
  if (!images.ok()) {
    faults->push_back(images.status().ToString());
    return;
  }
  const auto records =
      base::RecordStore::Existing(Root("records/images"), base::Durability::kVolatile);
  for (const cri::Image& image : *images) {
    crisp::state::ImageRecord record;
    const auto bytes = records.Get(image.id());
    if (!bytes.ok() || !record.ParseFromString(*bytes)) {
      faults->push_back(base::StrCat("image ", image.id(), " has no good record"));
    }
    for (const std::string& chain_id : record.chain_ids()) {
      if (!base::Exists(Root("layers/" + chain_id))) {
        faults->push_back(base::StrCat("image ", image.id(), " lacks layer ", chain_id));
      }
    }
  }
  const std::vector<std::string> recorded = Names("records/layers");
  for (const std::string& chain_id : Names("layers")) {
    if (std::find(recorded.begin(), recorded.end(), chain_id) == recorded.end()) {
      faults->push_back(base::StrCat("layer ", chain_id, " has no record"));
    }
    const auto known = content_.find(chain_id);
    if (known == content_.end()) continue;
    const std::string now = LayerContent(Root("layers/" + chain_id));
    if (now != known->second) {
      faults->push_back(base::StrCat("layer ", chain_id, " is not what it was from \"",
                                     FirstDifference(now, known->second), "\" on"));
    }
  }
}

// Empty when ImageFsInfo says what a walk finds.
std::string ImageStoreTest::UsageFault() const {
  const auto info = FsInfo();
  if (!info.ok() || info->image_filesystems_size() != 1) {
    return "ImageFsInfo: " + info.status().ToString();
  }
  const std::atomic<bool> stop = false;
  const auto all = imageservice::MeasureTree(Root("layers"), stop);
  struct stat folder = {};
  if (!all.ok() || stat(Root("layers").c_str(), &folder) != 0) return all.status().ToString();
  // The folder of the layers is nobody's.
  const imageservice::DiskUsage walked = {
      .bytes = all->bytes - static_cast<uint64_t>(folder.st_blocks) * 512,
      .inodes = all->inodes - 1};
  const cri::FilesystemUsage& said = info->image_filesystems(0);
  // A directory that no entry of the archive describes is taken for a block when it is counted.
  const uint64_t tolerance = Names("layers").size() * (16 << 10);
  if (said.used_bytes().value() <= walked.bytes + tolerance &&
      walked.bytes <= said.used_bytes().value() + tolerance &&
      said.inodes_used().value() == walked.inodes) {
    return "";
  }
  return base::StrCat("ImageFsInfo says ", said.used_bytes().value(), " bytes and ",
                      said.inodes_used().value(), " inodes, a walk finds ", walked.bytes, " and ",
                      walked.inodes);
}

std::vector<std::string> ImageStoreTest::StoreFaults() const {
  std::vector<std::string> faults;
  if (!Eventually([&] { return Leavings().empty(); })) {
    for (const std::string& left : Leavings()) faults.push_back("left: " + left);
  }
  AddImageFaults(&faults);
  if (!Eventually([&] { return UsageFault().empty(); })) faults.push_back(UsageFault());
  return faults;
}

}  // namespace test
