// A slow line to the test registry, so that a pull has moments to be interrupted at.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"

namespace test {

// Passes connections on to a registry on loopback. What the registry says comes at
// `bytes_per_second` over all connections together.
class ThrottledRegistry {
 public:
  ThrottledRegistry(const std::string& registry_address, int64_t bytes_per_second);
  ~ThrottledRegistry();
  ThrottledRegistry(const ThrottledRegistry&) = delete;
  ThrottledRegistry& operator=(const ThrottledRegistry&) = delete;

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

 private:
  void Accept();
  void Serve(base::UniqueFd client);
  // Waits until so many bytes may pass.
  void Take(int64_t bytes);

  const int registry_port_;
  const int64_t bytes_per_second_;
  std::string address_;
  base::UniqueFd listener_;
  std::atomic<bool> stop_ = false;
  base::Mutex mutex_;
  int64_t free_at_ ABSL_GUARDED_BY(mutex_) = 0;  // Nanoseconds, when the line is free again.
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

}  // namespace test
