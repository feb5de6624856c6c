//! What may stand in a line that people read.

use std::ops::RangeInclusive;

/// Format characters and separators of lines and paragraphs (Unicode 16, general categories Cf, Zl and Zp): they turn text
/// around, hide in it or break it, and none of them is seen.
const UNSEEN: &[RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Whether a character may stand in a line for people: no control character, no format character, and no separator of lines
/// or paragraphs.
pub fn is_printable(character: char) -> bool {
    !character.is_control() && !UNSEEN.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_hides_or_breaks_a_line_is_not_printable() {
        for unseen in [
            '\0',
            '\n',
            '\u{85}',
            '\u{ad}',
            '\u{200b}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(!is_printable(unseen), "{unseen:?}");
        }
        for seen in ['a', ' ', 'ä', '—', '…', '\u{a0}', '\u{2027}', '\u{202f}', '\u{3000}', '\u{fffd}', '漢', '😀']
        {
            assert!(is_printable(seen), "{seen:?}");
        }
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(UNSEEN.windows(2).all(|two| two[0].end() < two[1].start()));
    }
}
