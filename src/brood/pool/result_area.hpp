#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/memory/segment.hpp>
#include <brood/pool/control.hpp>

namespace brood::detail {

/// Where a worker leaves results that are larger than their slot: pages of shared memory that it
/// fills from front to back, and uses again when the owner has consumed all that is in them.
///
/// Used by one worker, from one thread. What is where is the worker's private knowledge; the pages
/// carry the tag of the pool's owner and the worker's group, so that they outlive the worker and
/// are found when it died. A page that it died in is freed as a whole, with its group.
class ResultArea {
 public:
  ResultArea(Segment& segment, Tag owner, std::uint32_t group)
      : segment_(&segment), owner_(owner), group_(group) {}

  /// Writes one result: encode into it, then commit(). What is not committed never was.
  class Writer final : public ByteSink {
   public:
    explicit Writer(ResultArea& area);
    /// Publishes nothing yet: the caller stores the place where the owner looks for it.
    Encoded commit();

   private:
    void grow(std::size_t at_least) override;

    ResultArea* area_;
  };

  /// Gives back consumed pages beyond a few; when the worker has nothing else to do.
  void trim() noexcept;

 private:
  struct Page {
    Extent extent;
    std::size_t used = 0;
    std::size_t populated = 0;
    [[nodiscard]] ResultPage& header() const { return *reinterpret_cast<ResultPage*>(extent.data); }
    [[nodiscard]] bool consumed() const;
  };

  /// Makes the last page one with room for `bytes` more.
  void open_page(std::size_t bytes);
  void populate(Page& page, std::size_t bytes);

  Segment* segment_;
  Tag owner_;
  std::uint32_t group_;
  std::vector<Page> pages_;  // the last one is being filled
};

/// The owner has copied or decoded a result and does not need its bytes any more.
void consume(Segment& segment, Encoded result) noexcept;

}  // namespace brood::detail
