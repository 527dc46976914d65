//! What the host hands to stage2: the start information and both kinds of memory map.
//! What is accepted must be a map that the loader can rely on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stage2::memory_map::MemoryMap;
use stage2::start_info::StartInfo;

fn check(map: &MemoryMap) {
    let ranges = map.ranges();
    for range in ranges {
        assert!(range.size > 0 && range.start.checked_add(range.size).is_some());
    }
    for pair in ranges.windows(2) {
        assert!(pair[0].end() <= pair[1].start);
    }
    if let Ok(region) = stage2::region::choose(map, &[]) {
        assert!(ranges.iter().any(|range| range.contains(&region)));
        assert_eq!(region.size, bootinfo::SVSM_REGION_SIZE);
        assert_eq!(region.start % bootinfo::SVSM_REGION_ALIGN, 0);
    }
}

fuzz_target!(|input: &[u8]| {
    if let Ok(info) = StartInfo::parse(input) {
        let _ = info.memory_map();
    }
    if let Ok(map) = MemoryMap::from_pvh(input) {
        check(&map);
    }
    if let Ok(map) = MemoryMap::from_igvm(input) {
        check(&map);
    }
    let _ = stage2::image::KernelImage::parse(input);
});
