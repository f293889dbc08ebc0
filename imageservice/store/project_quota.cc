#include "imageservice/store/project_quota.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

// There is no wrapper in libc; <sys/quota.h> contradicts <linux/quota.h>.
int QuotaCall(int fd, unsigned command, uint32_t id, void* answer) {
  return static_cast<int>(syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), id, answer));
}

absl::StatusOr<base::UniqueFd> OpenDirectory(const std::string& directory) {
  return base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

absl::StatusOr<fsxattr> AttributesOf(int fd, const std::string& directory) {
  fsxattr attributes = {};
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("read the project of ", directory));
  }
  return attributes;
}

}  // namespace

absl::StatusOr<ProjectQuota> ProjectQuota::Open(const std::string& directory) {
  ASSIGN_OR_RETURN(base::UniqueFd fd, OpenDirectory(directory));
  if_dqinfo info = {};
  if (QuotaCall(fd.get(), Q_GETINFO, 0, &info) != 0) {
    return absl::FailedPreconditionError(
        base::ErrnoStatus(errno, base::StrCat("no project quota at ", directory)).message());
  }
  return ProjectQuota(std::move(fd));
}

absl::Status ProjectQuota::Assign(const std::string& directory, uint32_t project) const {
  ASSIGN_OR_RETURN(const base::UniqueFd fd, OpenDirectory(directory));
  ASSIGN_OR_RETURN(fsxattr attributes, AttributesOf(fd.get(), directory));
  attributes.fsx_projid = project;
  attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  return ioctl(fd.get(), FS_IOC_FSSETXATTR, &attributes) == 0
             ? absl::OkStatus()
             : base::ErrnoStatus(errno, base::StrCat("put ", directory, " into a project"));
}

absl::StatusOr<uint32_t> ProjectQuota::ProjectOf(const std::string& directory) const {
  ASSIGN_OR_RETURN(const base::UniqueFd fd, OpenDirectory(directory));
  ASSIGN_OR_RETURN(const fsxattr attributes, AttributesOf(fd.get(), directory));
  return (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0 ? attributes.fsx_projid : 0;
}

absl::StatusOr<DiskUsage> ProjectQuota::Usage(uint32_t project) const {
  if_dqblk counted = {};
  if (QuotaCall(fd_.get(), Q_GETQUOTA, project, &counted) != 0) {
    if (errno == ENOENT) {
      return DiskUsage();  // xfs keeps no entry for what nobody uses.
    }
    return base::ErrnoStatus(errno, base::StrCat("read the quota of project ", project));
  }
  return DiskUsage{.bytes = counted.dqb_curspace, .inodes = counted.dqb_curinodes};
}

}  // namespace imageservice
