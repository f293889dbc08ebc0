#include "conmon/system.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

namespace conmon {
namespace {

int64_t ReadClock(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int64_t WallClock() { return ReadClock(CLOCK_REALTIME); }
int64_t MonotonicClock() { return ReadClock(CLOCK_MONOTONIC); }

int MillisecondsUntil(int64_t deadline) {
  const int64_t left = deadline - MonotonicClock();
  return left <= 0 ? 0 : static_cast<int>((left + kMillisecond - 1) / kMillisecond);
}

int64_t ParseNumber(const char* text, int64_t max) {
  if (*text == '\0') {
    return -1;
  }
  int64_t number = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || number > (max - (*text - '0')) / 10) {
      return -1;
    }
    number = number * 10 + (*text - '0');
  }
  return number;
}

ssize_t ReadSmallFile(int directory, const char* path, char* buffer, size_t capacity) {
  const int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return -1;
  }
  const ssize_t length = read(fd, buffer, capacity - 1);
  const int error = errno;
  close(fd);
  buffer[length < 0 ? 0 : length] = '\0';
  errno = error;
  return length;
}

int WriteSmallFile(int directory, const char* path, const char* text, size_t length) {
  const int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  const int error = write(fd, text, length) < 0 ? errno : 0;
  close(fd);
  return error;
}

int JoinCgroup(const char* directory) {
  const int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  const int error = WriteSmallFile(fd, "cgroup.procs", "0", 1);
  close(fd);
  return error;
}

void GiveBackStack() {
  constexpr uintptr_t kMost = 128 << 10;
  constexpr uintptr_t kOwn = 512;  // This frame, and what madvise needs below it.
  const auto page = static_cast<uintptr_t>(getpagesize());
  const uintptr_t frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uintptr_t end = (frame - kOwn) & ~(page - 1);
  // ENOMEM says that the stack does not reach down so far; the rest is done.
  madvise(reinterpret_cast<void*>(end - kMost), kMost, MADV_DONTNEED);
}

void ResetSignals() {
  // By the system call: libc keeps some signals to itself. The kernel's struct, all zero, is
  // SIG_DFL.
  const unsigned long action[4] = {};
  constexpr int kLast = 64;
  for (int number = 1; number <= kLast; ++number) {
    syscall(SYS_rt_sigaction, number, action, nullptr, sizeof(uint64_t));  // Not KILL and STOP.
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void Complain(const char* program, const char* a, const char* b, const char* c) {
  const char* pieces[] = {program, ": ", a, b, c, "\n"};
  iovec vectors[6];
  for (size_t i = 0; i < 6; ++i) {
    vectors[i] = {const_cast<char*>(pieces[i]), strlen(pieces[i])};
  }
  [[maybe_unused]] ssize_t written = writev(STDERR_FILENO, vectors, 6);
}

}  // namespace conmon
