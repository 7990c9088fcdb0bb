//! A text read once: its words without case and accents, where its sentences end, and its marks.

use super::lexicon;

/// What letters a word has; that of the highest stands for the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Letters {
    /// Such as any language has.
    #[default]
    Plain,
    /// With an accent or a cedilla of French.
    French,
    /// Latin ones that French has not: `ñ`, `ä`.
    OtherLatin,
    /// Of another script.
    OtherScript,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    start: usize,
    end: usize,
    /// What the lexicon says of it.
    pub(super) kinds: u32,
    pub(super) letters: Letters,
    /// Nothing but an apostrophe is between it and the word before.
    pub(super) is_joined: bool,
    /// Three capital letters or more, and no small one.
    pub(super) is_loud: bool,
}

/// The words and marks of a text.
#[derive(Debug, Default)]
pub(super) struct Words {
    folded: String,
    pub(super) all: Vec<Word>,
    /// How many words there are up to the end of each sentence that has any; the last sentence may have none.
    sentences: Vec<usize>,
    pub(super) emoji: usize,
    /// Of these, those that flirt.
    pub(super) flirty_emoji: usize,
    pub(super) exclamations: usize,
    pub(super) questions: usize,
}

/// The word that is being read.
#[derive(Default)]
struct Open {
    start: usize,
    letters: Letters,
    is_joined: bool,
    capitals: usize,
    small: usize,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut read = Self { folded: String::with_capacity(text.len() + text.len() / 8), ..Self::default() };
        let mut open: Option<Open> = None;
        let (mut before, mut last) = (' ', ' ');
        for character in text.chars() {
            if is_accent(character) {
                open.iter_mut().for_each(|word| word.letters = word.letters.max(Letters::French));
            } else if is_unseen(character) {
                // It is between two letters, or two parts of one emoji, and parts nothing.
            } else if character.is_alphanumeric() {
                let is_joined = matches!(before, '\'' | '’' | 'ʼ') && last.is_alphanumeric();
                let word = open.get_or_insert_with(|| Open { start: read.folded.len(), is_joined, ..Open::default() });
                word.capitals += usize::from(character.is_uppercase());
                word.small += usize::from(character.is_lowercase());
                word.letters = word.letters.max(push(&mut read.folded, character));
            } else {
                read.close(open.take());
                read.mark(character, before);
            }
            (last, before) = (before, character);
        }
        read.close(open);
        read
    }

    /// The folded word.
    pub(super) fn text(&self, word: &Word) -> &str {
        &self.folded[word.start..word.end]
    }

    pub(super) fn has(&self, kinds: u32) -> bool {
        self.all.iter().any(|word| word.kinds & kinds != 0)
    }

    /// From which to which word each sentence goes.
    pub(super) fn sentences(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let ends = self.sentences.iter().copied().chain([self.all.len()]);
        ends.scan(0, |start, end| Some((std::mem::replace(start, end), end)))
    }

    fn close(&mut self, open: Option<Open>) {
        if let Some(Open { start, letters, is_joined, capitals, small }) = open {
            let kinds = lexicon::kinds(&self.folded[start..]);
            let is_loud = capitals >= 3 && small == 0;
            self.all.push(Word { start, end: self.folded.len(), kinds, letters, is_joined, is_loud });
        }
    }

    fn mark(&mut self, mark: char, before: char) {
        if matches!(mark, '.' | '!' | '?' | '…' | '\n' | '。' | '！' | '？' | '‼')
            && self.sentences.last().copied().unwrap_or(0) < self.all.len()
        {
            self.sentences.push(self.all.len());
        }
        self.exclamations += usize::from(matches!(mark, '!' | '！' | '‼'));
        self.questions += usize::from(matches!(mark, '?' | '？'));
        // Of several that are joined, the first counts.
        if is_emoji(mark) && before != '\u{200D}' {
            self.emoji += 1;
            self.flirty_emoji += usize::from("😘😍😉😏🔥💋😈😜🥵💦🍑❤♥💕💖💗😚".contains(mark));
        }
    }
}

/// Puts what a letter folds into behind the others.
fn push(folded: &mut String, letter: char) -> Letters {
    if letter.is_ascii() {
        folded.push(letter.to_ascii_lowercase());
        return Letters::Plain;
    }
    let mut letters = Letters::Plain;
    for small in letter.to_lowercase() {
        let (plain, of) = match small {
            'à' | 'â' => ("a", Letters::French),
            'æ' => ("ae", Letters::French),
            'ç' => ("c", Letters::French),
            'è' | 'é' | 'ê' | 'ë' => ("e", Letters::French),
            'î' | 'ï' => ("i", Letters::French),
            'ô' => ("o", Letters::French),
            'œ' => ("oe", Letters::French),
            'ù' | 'û' => ("u", Letters::French),
            'á' | 'ã' | 'ä' | 'å' => ("a", Letters::OtherLatin),
            'í' | 'ì' => ("i", Letters::OtherLatin),
            'ñ' => ("n", Letters::OtherLatin),
            'ó' | 'ò' | 'ö' | 'õ' | 'ø' => ("o", Letters::OtherLatin),
            'ú' | 'ü' => ("u", Letters::OtherLatin),
            'ß' => ("ss", Letters::OtherLatin),
            _ => ("", other(small)),
        };
        folded.push_str(plain);
        if plain.is_empty() {
            folded.push(small);
        }
        letters = letters.max(of);
    }
    letters
}

/// Of letters that are not folded. Those that dress a text up (`𝓱𝓮𝔂`, `ｈｅｙ`) tell no language.
fn other(letter: char) -> Letters {
    match u32::from(letter) {
        _ if !letter.is_alphabetic() => Letters::Plain,
        0x1D400..=0x1D7FF | 0xFF21..=0xFF5A | 0x2100..=0x24FF | 0x1F100..=0x1F1FF => Letters::Plain,
        0..0x250 => Letters::OtherLatin,
        _ => Letters::OtherScript,
    }
}

/// An accent that is a character of its own.
fn is_accent(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36F}')
}

/// It is not seen by itself: joiners, variation selectors, the colour of a skin, tags of flags.
pub(super) fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{20E3}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}'
    )
}

pub(super) fn is_emoji(character: char) -> bool {
    matches!(character, '\u{1F000}'..='\u{1FAFF}' | '\u{2300}'..='\u{23FF}' | '\u{2600}'..='\u{27BF}' | '\u{2B00}'..='\u{2BFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_sentences_end() {
        let words = Words::of(
            "L’Été, c'est là! Don't be SHY… Cœur e\u{301}pris 👩\u{200D}❤\u{FE0F}\u{200D}👨 so\u{AD}ft?!\n\n😘👍🏽",
        );
        let texts: Vec<_> = words.all.iter().map(|word| words.text(word)).collect();
        assert_eq!(texts, ["l", "ete", "c", "est", "la", "don", "t", "be", "shy", "coeur", "epris", "soft"]);
        assert_eq!(words.sentences().collect::<Vec<_>>(), [(0, 5), (5, 9), (9, 12), (12, 12)]);
        assert_eq!((words.emoji, words.flirty_emoji, words.exclamations, words.questions), (3, 1, 2, 1));
        let of = |at: usize| (words.all[at].letters, words.all[at].is_joined, words.all[at].is_loud);
        assert_eq!(of(1), (Letters::French, true, false));
        assert_eq!(of(6), (Letters::Plain, true, false));
        assert_eq!(of(8), (Letters::Plain, false, true));
        assert_eq!(of(10), (Letters::French, false, false));
    }

    #[test]
    fn letters_tell_where_they_are_from() {
        for (text, letters) in [
            ("hey", Letters::Plain),
            ("forêt", Letters::French),
            ("mañana", Letters::OtherLatin),
            ("żółw", Letters::OtherLatin),
            ("привет", Letters::OtherScript),
            ("𝓱𝓮𝔂", Letters::Plain),
        ] {
            assert_eq!(Words::of(text).all[0].letters, letters, "{text}");
        }
    }
}
