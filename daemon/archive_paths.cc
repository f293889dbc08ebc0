#include "daemon/archive_paths.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace crispd {
namespace {

constexpr size_t kChunk = 1 << 20;

// Where large files may lie for a while: not /tmp first, which may be memory.
std::vector<std::string> SpoolDirectories() {
  std::vector<std::string> directories;
  if (const char* chosen = getenv("TMPDIR"); chosen != nullptr && *chosen == '/') {
    directories.emplace_back(chosen);
  }
  directories.emplace_back("/var/tmp");
  directories.emplace_back("/tmp");
  return directories;
}

// All of `from`, from where it stands, to `to`.
absl::Status Copy(int from, int to) {
  std::string buffer(kChunk, '\0');
  for (;;) {
    const ssize_t n = read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoStatus(errno, "read");
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(
        base::WriteAll(to, std::string_view(buffer).substr(0, static_cast<size_t>(n)), "write"));
  }
}

absl::StatusOr<base::UniqueFd> SpoolStandardInput() {
  absl::Status failure;
  for (const std::string& directory : SpoolDirectories()) {
    absl::StatusOr<base::UniqueFd> spool = base::Open(directory, O_TMPFILE | O_RDWR, 0600);
    if (!spool.ok()) {
      failure = spool.status();
      continue;
    }
    RETURN_IF_ERROR(base::Annotate(Copy(STDIN_FILENO, spool->get()),
                                   base::StrCat("copy standard input to ", directory)));
    return spool;
  }
  return failure;
}

}  // namespace

absl::StatusOr<ArchiveInput> ArchiveInput::Open(const std::string& file) {
  ArchiveInput input;
  if (file != "-") {
    char resolved[PATH_MAX];
    if (realpath(file.c_str(), resolved) == nullptr) {
      return base::ErrnoStatus(errno, file);
    }
    input.path_ = input.name_ = resolved;
    return input;
  }
  input.name_ = "standard input";
  int fd = STDIN_FILENO;
  struct stat found = {};
  const bool is_file =
      fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && lseek(fd, 0, SEEK_CUR) == 0;
  if (isatty(fd) != 0) {
    return absl::InvalidArgumentError("standard input is a terminal: pipe an archive into it");
  }
  if (!is_file) {
    ASSIGN_OR_RETURN(input.spool_, SpoolStandardInput());
    fd = input.spool_.get();
  }
  input.path_ = base::StrCat("/proc/", getpid(), "/fd/", fd);
  return input;
}

absl::StatusOr<std::unique_ptr<ArchiveOutputPath>> ArchiveOutputPath::Create(
    const std::string& file, Kind kind, Existing existing) {
  const bool is_stdout = file == "-";
  if (is_stdout && (kind == Kind::kDirectory || isatty(STDOUT_FILENO) != 0)) {
    return absl::InvalidArgumentError(
        kind == Kind::kDirectory ? "a layout is a directory: name one with -o"
                                 : "standard output is a terminal: pipe it or use -o FILE");
  }
  std::string parent = SpoolDirectories().front();
  std::string name = "archive";
  if (!is_stdout) {
    std::string trimmed = file;
    while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
    const size_t slash = trimmed.rfind('/');
    parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
    name = trimmed.substr(slash == std::string::npos ? 0 : slash + 1);
    if (name.empty() || name == "." || name == "..") {
      return absl::InvalidArgumentError(base::StrCat("\"", file, "\" is not the name of a file"));
    }
    struct stat found = {};
    if (lstat(trimmed.c_str(), &found) == 0) {
      if (existing == Existing::kRefuse) {
        return absl::AlreadyExistsError(
            base::StrCat(file, " exists already: --force replaces a file"));
      }
      if (!S_ISREG(found.st_mode) || kind == Kind::kDirectory) {
        return absl::AlreadyExistsError(
            base::StrCat(file, " exists already, and --force replaces one file by another only"));
      }
    }
  }
  char resolved[PATH_MAX];
  if (realpath(parent.c_str(), resolved) == nullptr) {
    return base::ErrnoStatus(errno, parent);
  }
  const std::string prefix = base::StrCat(resolved, "/");
  std::unique_ptr<ArchiveOutputPath> output(
      new ArchiveOutputPath(is_stdout ? "" : prefix + name, kind, existing));
  std::string temporary = base::StrCat(prefix, ".", name.substr(0, 200), ".XXXXXX");
  if (kind == Kind::kDirectory) {
    if (mkdtemp(temporary.data()) == nullptr || chmod(temporary.c_str(), 0755) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("make ", temporary));
    }
  } else {
    const base::UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd.valid() || fchmod(fd.get(), is_stdout ? 0600 : 0644) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("make ", temporary));
    }
  }
  output->temporary_ = std::move(temporary);
  return output;
}

ArchiveOutputPath::~ArchiveOutputPath() {
  if (!temporary_.empty()) {
    base::RemoveTree(temporary_).IgnoreError();
  }
}

absl::Status ArchiveOutputPath::Publish() {
  if (target_.empty()) {
    ASSIGN_OR_RETURN(const base::UniqueFd fd, base::Open(temporary_, O_RDONLY));
    return base::Annotate(Copy(fd.get(), STDOUT_FILENO), "copy to standard output");
  }
  const unsigned flags = existing_ == Existing::kRefuse ? RENAME_NOREPLACE : 0;
  int result = renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), flags);
  if (result != 0 && errno == EINVAL && !base::Exists(target_)) {  // NFS knows no flags.
    result = rename(temporary_.c_str(), target_.c_str());
  }
  if (result != 0) {
    return errno == EEXIST
               ? absl::AlreadyExistsError(base::StrCat(target_, " was made by somebody meanwhile"))
               : base::ErrnoStatus(errno, base::StrCat("name the archive ", target_));
  }
  temporary_.clear();
  return base::SyncDirectory(target_.substr(0, target_.rfind('/') + 1));
}

}  // namespace crispd
