// What plugins answer to STATUS (CNI 1.1.0, section 2), asked in the background, so that nobody who
// wants to know waits for a plugin.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "network/cni_config.h"
#include "network/cni_plugin.h"

namespace network {

// Thread-safe. Has a thread only while it asks.
class PluginStatus {
 public:
  struct Timing {
    absl::Duration period = absl::Seconds(4);    // An answer is asked for again after this.
    absl::Duration timeout = absl::Seconds(15);  // For all plugins together.
  };
  // `plugins` must outlive it.
  explicit PluginStatus(const CniPlugins& plugins) : PluginStatus(plugins, Timing()) {}
  PluginStatus(const CniPlugins& plugins, Timing timing);
  // Kills a plugin that is being asked.
  ~PluginStatus();
  PluginStatus(const PluginStatus&) = delete;
  PluginStatus& operator=(const PluginStatus&) = delete;

  struct Answer {
    absl::Status
        status;  // FAILED_PRECONDITION with the plugin's words; OK before the first answer.
    base::SteadyTime asked = base::SteadyTime::InfinitePast();  // Before the first answer: the infinite past.
  };
  // The last answer of the plugins of `networks`. Networks before 1.1.0 have no STATUS: OK. Never
  // waits; plugins are asked in the background when the answer is older than the period. When the
  // configuration changes, the last answer stands until the next one is there.
  Answer Last(const std::shared_ptr<const CniNetworks>& networks);

 private:
  absl::Status Ask(const CniNetworks& networks) const;

  const CniPlugins& plugins_;
  const Timing timing_;
  const std::shared_ptr<base::Cancellation> stop_ = std::make_shared<base::Cancellation>();

  base::Mutex mutex_;
  Answer answer_ ABSL_GUARDED_BY(mutex_);
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  base::Lane lane_;  // Last: its destructor waits for the thread, which uses the rest.
};

}  // namespace network
