"""The vendor, read side: plan requests, fetch pages, judge them, hand over bars."""
