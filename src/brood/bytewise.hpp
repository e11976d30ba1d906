// Layer: channel
#pragma once

namespace brood {

/// Says that values of the trivially copyable class T cross to another process as a copy of their
/// bytes. Needed only for classes which are not aggregates, such as those with constructors; what
/// is an aggregate of numbers crosses so anyway.
///
/// The class must hold nothing that means something only in one process (pointers, descriptors),
/// and any bytes must make a valid T, because they are not checked when they arrive:
///
///     class Colour { public: explicit Colour(int rgb); ... private: int rgb_; };
///     template <> inline constexpr bool brood::enable_bytewise<Colour> = true;
template <class T>
inline constexpr bool enable_bytewise = false;

}  // namespace brood
