// The setting pinned_images: which images the kubelet's garbage collection is to leave alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imageservice {

// Whether one of `patterns` names one of `names`, which are an image's "repository:tag" and
// "repository@digest". A pattern is a whole name in which each "*" stands for any text, "/" and
// ":" included: "quay.io/app/web:1" (exact), "quay.io/app/*" (glob), "*pause*" (keyword). CRI-O's
// crio.conf(5), pinned_images, is a part of that.
bool IsPinned(const std::vector<std::string>& patterns, const std::vector<std::string>& names);

// Whether `text`, whole, matches `pattern`.
bool MatchesGlob(std::string_view pattern, std::string_view text);

}  // namespace imageservice
