#include "conmon/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "conmon/system.h"

namespace conmon {

int LogFile::Open(const char* path) {
  int fd = -1;
  if (*path != '\0') {
    // O_NONBLOCK: a FIFO that nobody reads is an error instead of a wait. Others may write to the
    // folder: what they put there is neither followed nor taken for a log unless it is a plain
    // file.
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW,
              0640);
    if (fd < 0) {
      return errno;
    }
    struct stat facts = {};
    if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      close(fd);
      return EINVAL;
    }
  }
  if (fd_ >= 0) {
    close(fd_);
  }
  fd_ = fd;
  return 0;
}

const LogFile::Prefix& LogFile::PrefixOf(const char* stream, bool ended) {
  Prefix& prefix = prefixes_[ended ? 1 : 0];
  if (prefix.length == 0) {
    // last_time_ is the batch's: one look at the clock for both tags.
    const time_t seconds = static_cast<time_t>(last_time_ / 1'000'000'000);
    tm civil = {};
    gmtime_r(&seconds, &civil);
    Text<sizeof(prefix.text)> text;
    text.AddNumber(civil.tm_year + 1900, 4).Add("-").AddNumber(civil.tm_mon + 1, 2).Add("-");
    text.AddNumber(civil.tm_mday, 2).Add("T").AddNumber(civil.tm_hour, 2).Add(":");
    text.AddNumber(civil.tm_min, 2).Add(":").AddNumber(civil.tm_sec, 2).Add(".");
    text.AddNumber(last_time_ % 1'000'000'000, 9).Add("Z ").Add(stream);
    text.Add(ended ? " F " : " P ");
    memcpy(prefix.text, text.data(), text.size());
    prefix.length = text.size();
  }
  return prefix;
}

void LogFile::Add(const char* stream, const char* text, size_t length, bool ended) {
  if (fd_ < 0) {
    return;
  }
  if (vector_count_ + 3 > kMaxVectors || (vector_count_ != 0 && stream != stream_)) {
    Commit();
  }
  if (vector_count_ == 0) {
    stream_ = stream;
    prefixes_[0].length = prefixes_[1].length = 0;
    const int64_t now = WallClock();
    last_time_ = now > last_time_ ? now : last_time_;
  }
  const Prefix& prefix = PrefixOf(stream, ended);
  // Always three vectors, so that a record's place in the batch follows from its number.
  vectors_[vector_count_++] = {const_cast<char*>(prefix.text), prefix.length};
  vectors_[vector_count_++] = {const_cast<char*>(text), length};
  vectors_[vector_count_++] = {const_cast<char*>("\n"), 1};
}

void LogFile::Commit() {
  if (vector_count_ == 0) {
    return;
  }
  size_t total = 0;
  for (size_t i = 0; i < vector_count_; ++i) {
    total += vectors_[i].iov_len;
  }
  const ssize_t written = writev(fd_, vectors_, static_cast<int>(vector_count_));
  error_ = written < 0 ? errno : 0;
  if (written != static_cast<ssize_t>(total)) {
    Drop(written < 0 ? 0 : static_cast<size_t>(written));
  }
  vector_count_ = 0;
}

void LogFile::Drop(size_t written) {
  if (error_ == 0) {
    error_ = ENOSPC;  // A short write to a file says no more than this.
  }
  size_t whole = 0;
  for (size_t i = 0; i < vector_count_; i += 3) {
    const size_t length = vectors_[i].iov_len + vectors_[i + 1].iov_len + vectors_[i + 2].iov_len;
    if (whole + length > written) {
      dropped_ += (vector_count_ - i) / 3;
      break;
    }
    whole += length;
  }
  const off_t end = lseek(fd_, 0, SEEK_CUR);
  if (written > whole && end >= 0) {
    [[maybe_unused]] int failed = ftruncate(fd_, end - static_cast<off_t>(written - whole));
  }
}

void LineBuffer::Added(size_t length, LogFile* log) {
  const size_t held = size_;
  size_ += length;
  size_t start = 0;
  size_t search = held;  // What was held has no newline.
  while (const void* newline = memchr(data_ + search, '\n', size_ - search)) {
    const size_t end = static_cast<size_t>(static_cast<const char*>(newline) - data_);
    log->Add(stream_, data_ + start, end - start, true);
    start = search = end + 1;
  }
  if (start == 0 && size_ == kSize) {
    log->Add(stream_, data_, kMaxLine, false);
    start = kMaxLine;
  }
  log->Commit();
  size_ -= start;
  memmove(data_, data_ + start, size_);
  flush_time_ =
      size_ == 0 ? 0 : MonotonicClock() + static_cast<int64_t>(kHoldMilliseconds) * kMillisecond;
}

void LineBuffer::Flush(LogFile* log) {
  if (size_ != 0) {
    log->Add(stream_, data_, size_, false);
    log->Commit();
  }
  size_ = 0;
  flush_time_ = 0;
}

}  // namespace conmon
