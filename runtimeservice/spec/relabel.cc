#include "runtimeservice/spec/relabel.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr int kHelpers = 3;
constexpr unsigned kCheckEvery = 256;  // Files.
constexpr absl::Duration kWorthSaying = absl::Seconds(5);

constexpr std::string_view kHostDirectories[] = {
    "/",           "/bin",    "/boot", "/dev",   "/etc",   "/etc/passwd", "/etc/pki",
    "/etc/shadow", "/home",   "/lib",  "/lib32", "/lib64", "/libx32",     "/media",
    "/mnt",        "/opt",    "/proc", "/root",  "/run",   "/sbin",       "/srv",
    "/sys",        "/system", "/tmp",  "/usr",   "/var",   "/var/lib",    "/var/log"};

// Whether the file at `path` has the label; errors count as no.
bool HasLabel(const std::string& path, const std::string& label, const char* attribute) {
  std::string value(label.size() + 2, '\0');
  const ssize_t size = lgetxattr(path.c_str(), attribute, value.data(), value.size());
  if (size < 0) {
    return false;
  }
  value.resize(static_cast<size_t>(size));
  if (!value.empty() && value.back() == '\0') {
    value.pop_back();
  }
  return value == label;
}

// A tree being relabelled by several threads: folders wait in a queue, each for whoever is free.
class Tree {
 public:
  Tree(const base::Context& ctx, base::UniqueFd top, std::string path, std::string label,
       const char* attribute)
      : ctx_(ctx),
        top_(std::move(top)),
        path_(std::move(path)),
        label_(std::move(label)),
        attribute_(attribute),
        folders_{"."} {}

  // Works until nothing is left or one has failed.
  void Work() {
    base::MutexLock lock(&mutex_);
    while (status_.ok() && (!folders_.empty() || busy_ > 0)) {
      if (folders_.empty()) {
        changed_.Wait(&mutex_);
        continue;
      }
      const std::string folder = std::move(folders_.back());
      folders_.pop_back();
      ++busy_;
      mutex_.Unlock();
      absl::Status status = Walk(folder);
      mutex_.Lock();
      --busy_;
      status_.Update(std::move(status));
      changed_.NotifyAll();
    }
  }

  // Waits for those who still work; after that nobody touches a file.
  absl::Status Finish() {
    base::MutexLock lock(&mutex_);
    while (busy_ > 0) {
      changed_.Wait(&mutex_);
    }
    return status_;
  }

  uint64_t files() {
    base::MutexLock lock(&mutex_);
    return files_;
  }

 private:
  absl::Status Walk(const std::string& folder) {
    // No symlink on the way: the tree may be changed by whoever uses it.
    absl::StatusOr<base::UniqueFd> opened =
        base::OpenBeneath(top_.get(), folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0,
                          RESOLVE_NO_SYMLINKS);
    if (absl::IsNotFound(opened.status())) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(base::Annotate(opened.status(), path_));
    const std::string in_folder = base::StrCat("/proc/self/fd/", opened->get(), "/");
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(opened->Release()), closedir);
    if (stream == nullptr) {
      return base::ErrnoStatus(errno, base::StrCat("list ", path_, "/", folder));
    }
    uint64_t files = 0;
    while (const dirent* entry = readdir(stream.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") {
        continue;
      }
      if (files++ % kCheckEvery == 0) {
        RETURN_IF_ERROR(ctx_.Check());
      }
      RETURN_IF_ERROR(
          base::Annotate(SetFileLabel(base::StrCat(in_folder, name), label_, attribute_),
                         base::StrCat(path_, "/", folder, "/", name)));
      if (IsFolder(dirfd(stream.get()), *entry)) {
        base::MutexLock lock(&mutex_);
        folders_.push_back(base::StrCat(folder, "/", name));
        changed_.NotifyOne();
      }
    }
    base::MutexLock lock(&mutex_);
    files_ += files;
    return absl::OkStatus();
  }

  static bool IsFolder(int directory, const dirent& entry) {
    if (entry.d_type != DT_UNKNOWN) {
      return entry.d_type == DT_DIR;
    }
    struct stat status = {};
    return fstatat(directory, entry.d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(status.st_mode);
  }

  const base::Context ctx_;
  const base::UniqueFd top_;
  const std::string path_;
  const std::string label_;
  const char* const attribute_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<std::string> folders_ ABSL_GUARDED_BY(mutex_);
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t files_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

bool IsHostDirectory(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') {
    path.remove_suffix(1);
  }
  return std::find(std::begin(kHostDirectories), std::end(kHostDirectories), path) !=
         std::end(kHostDirectories);
}

absl::Status SetFileLabel(const std::string& path, const std::string& label,
                          const char* attribute) {
  // Reading is cheap, and a write of what is there goes to the journal.
  if (HasLabel(path, label, attribute) ||
      lsetxattr(path.c_str(), attribute, label.c_str(), label.size() + 1, 0) == 0 ||
      errno == ENOENT || errno == EOPNOTSUPP) {
    return absl::OkStatus();
  }
  return base::ErrnoStatus(errno, base::StrCat("set the label ", label));
}

absl::Status Relabel(const base::Context& ctx, const std::string& path, const std::string& label,
                     base::Lane* helpers, const char* attribute) {
  if (IsHostDirectory(path)) {
    return absl::InvalidArgumentError(
        base::StrCat(path, " belongs to the host and is not relabelled"));
  }
  if (HasLabel(path, label, attribute)) {
    return absl::OkStatus();
  }
  struct stat status = {};
  if (lstat(path.c_str(), &status) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  if (S_ISDIR(status.st_mode)) {
    const base::SteadyTime begin = base::SteadyTime::Now();
    ASSIGN_OR_RETURN(base::UniqueFd top,
                     base::Open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    const auto tree = std::make_shared<Tree>(ctx, std::move(top), path, label, attribute);
    for (int i = 0; helpers != nullptr && i < kHelpers; ++i) {
      helpers->Post([tree] { tree->Work(); }).IgnoreError();  // Alone it goes on, too.
    }
    tree->Work();
    RETURN_IF_ERROR(tree->Finish());
    if (base::SteadyTime::Now() - begin > kWorthSaying) {
      base::LogInfo("relabelled ", tree->files(), " files of ", path, " in ",
                    absl::ToInt64Seconds(base::SteadyTime::Now() - begin), " s");
    }
  }
  return base::Annotate(SetFileLabel(path, label, attribute), path);
}

}  // namespace runtimeservice
