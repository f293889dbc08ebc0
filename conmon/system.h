// The little that the monitor needs between itself and the kernel: text in fixed buffers, time,
// files.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

namespace conmon {

// Text in a fixed buffer, always zero-terminated; what does not fit is dropped and remembered.
template <size_t kCapacity>
class Text {
 public:
  Text() { data_[0] = '\0'; }  // The rest stays untouched: a page never written costs nothing.

  Text& Add(const char* text, size_t length) {
    if (length > kCapacity - 1 - size_) {
      length = kCapacity - 1 - size_;
      truncated_ = true;
    }
    memcpy(data_ + size_, text, length);
    size_ += length;
    data_[size_] = '\0';
    return *this;
  }
  Text& Add(const char* text) { return Add(text, strlen(text)); }
  // Decimal, with leading zeros up to `width` digits.
  Text& AddNumber(int64_t number, size_t width = 1) {
    char digits[24];
    size_t at = sizeof(digits);
    uint64_t rest = number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    while (rest != 0 || sizeof(digits) - at < width) {
      digits[--at] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    }
    if (number < 0) {
      Add("-", 1);
    }
    return Add(digits + at, sizeof(digits) - at);
  }

  char* data() { return data_; }
  const char* data() const { return data_; }
  size_t size() const { return size_; }
  bool truncated() const { return truncated_; }
  void clear() { data_[size_ = 0] = '\0'; }

 private:
  size_t size_ = 0;
  bool truncated_ = false;
  char data_[kCapacity];
};

// Nanoseconds since 1970, and on a clock that never goes back.
int64_t WallClock();
int64_t MonotonicClock();
inline constexpr int64_t kMillisecond = 1'000'000;

// poll(2)'s timeout until `deadline` on the monotonic clock: rounded up, never negative.
int MillisecondsUntil(int64_t deadline);

// A decimal number from 0 to `max`; -1 for any other text.
int64_t ParseNumber(const char* text, int64_t max);

// Reads a small file into a zero-terminated buffer: its length, or -1 with errno set.
ssize_t ReadSmallFile(int directory, const char* path, char* buffer, size_t capacity);

// Writes a small file in one call; 0 or an errno. A missing file is not made.
int WriteSmallFile(int directory, const char* path, const char* text, size_t length);

// Moves the calling process into the cgroup at `directory`; 0 or an errno.
int JoinCgroup(const char* directory);

// Gives the pages of the stack below the caller's frame back to the kernel: deep calls touched
// them, and a process that mostly waits needs none of them.
void GiveBackStack();

// Default signal dispositions and an empty mask, as a fresh program expects.
void ResetSignals();

// To standard error, best effort: "`program`: `a``b``c`\n".
void Complain(const char* program, const char* a, const char* b = "", const char* c = "");

}  // namespace conmon
