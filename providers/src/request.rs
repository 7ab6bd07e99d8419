//! What every provider checks of a request before it touches anything.

use mempool::{ProviderError, RegionRequest};

/// The bytes to hand out: `request.len` rounded up to whole pages.
///
/// # Errors
/// The length is 0 or leaves the address space, or the alignment is no power of two.
pub(crate) fn check(
    provider: &str,
    request: &RegionRequest,
    page: usize,
) -> Result<usize, ProviderError> {
    let bad = |why: String| {
        Err(ProviderError::BadRequest {
            provider: provider.into(),
            why: format!("{why} was asked for '{}'", request.name),
        })
    };
    if request.len == 0 {
        return bad("a region of 0 bytes".into());
    }
    if !request.align.is_power_of_two() {
        return bad(format!("alignment {}, not a power of two,", request.align));
    }
    match request.len.checked_next_multiple_of(page) {
        Some(len) if isize::try_from(len).is_ok() => Ok(len),
        _ => bad(format!("a region of {} bytes, more than an address space holds,", request.len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(len: usize, align: usize) -> Result<usize, String> {
        let request = RegionRequest { name: "rx".into(), len, align };
        check("host", &request, 4096).map_err(|error| error.to_string())
    }

    #[test]
    fn lengths_are_rounded_to_pages_and_whole_pages_stay() {
        assert_eq!(ask(1, 1), Ok(4096));
        assert_eq!(ask(4096, 64), Ok(4096));
        assert_eq!(ask(4097, 64), Ok(8192));
    }

    #[test]
    fn a_request_that_makes_no_sense_says_so() {
        assert_eq!(ask(0, 64).unwrap_err(), "host: a region of 0 bytes was asked for 'rx'");
        let odd = "host: alignment 3, not a power of two, was asked for 'rx'";
        assert_eq!(ask(64, 3).unwrap_err(), odd);
        assert!(ask(64, 0).is_err());
        assert!(ask(usize::MAX, 64).is_err());
        assert!(ask(isize::MAX as usize, 64).is_err());
    }
}
