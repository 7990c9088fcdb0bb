//! The words that the parts of the score know, as they are folded: small letters without accents. One look-up tells all that a word is.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Function words of English that French has not.
pub(super) const ENGLISH: u32 = 1;
/// Function words of French that English has not.
pub(super) const FRENCH: u32 = 1 << 1;
/// Function words of Spanish, German, Italian, Portuguese and Dutch that neither has.
pub(super) const OTHER: u32 = 1 << 2;
/// Says nothing of what a text is about; so do the words of the three above.
pub(super) const EMPTY: u32 = 1 << 3;
/// Speaks to whoever reads it.
pub(super) const READER: u32 = 1 << 4;
/// As one speaks to a friend in French.
pub(super) const TU: u32 = 1 << 5;
/// As one writes, or speaks to a stranger.
pub(super) const POLITE: u32 = 1 << 6;
/// Of letters from an office.
pub(super) const STIFF: u32 = 1 << 7;
/// As one speaks, and does not write.
pub(super) const SPOKEN: u32 = 1 << 8;
/// Affection and thanks.
pub(super) const WARM: u32 = 1 << 9;
/// Desire and teasing.
pub(super) const FLIRTY: u32 = 1 << 10;
/// The second part of an English contraction: what stands behind the apostrophe.
pub(super) const SHORT: u32 = 1 << 11;

/// Within brackets, a request to put something there: `[insert …]`.
pub(super) const INSERT: u32 = 1 << 12;
/// The name of what is put there: `[first name]`, `[nom du fan]`.
pub(super) const NAME: u32 = 1 << 13;
/// What is to be filled in only if nothing else is there: `[date]`, but not `[date night]`.
pub(super) const FIELD: u32 = 1 << 14;
/// Whose it is: `[your city]`.
pub(super) const WHOSE: u32 = 1 << 15;

/// What all the words of these languages are.
pub(super) const FUNCTION: u32 = ENGLISH | FRENCH | OTHER;

pub(super) const LISTS: &[(u32, &str)] = &[
    (
        ENGLISH,
        "the and you to of in is it my your yours for with i that this these those are be been have has had so what when where who how why \
         we us our at but not just all will would was were can could should if do does did from by they them their there he she his her him \
         its than then too very some any more most about into out up off over only every no yes here now again ll ve am an",
    ),
    (
        FRENCH,
        "le la les et tu je de un une est pour ma mon mes ta tes sa ses vous votre vos nous notre nos que qui quoi pas ce cet cette ces \
         dans avec sur en du des au aux moi toi mais se il elle ils elles ou ne ni donc je suis es sont sommes etes etait sera ai avez \
         avons ont fait faire tout tous toute toutes si chez tres bien aussi encore jamais toujours ici quand comme sous entre leur leurs \
         lui y te l j qu c n ca cela parce rien deja alors depuis",
    ),
    (
        OTHER,
        "el los las del por para muy pero como esta eres yo hoy una und der das ist nicht ich mit ein eine auch dich mich dein sind che di \
         sono gli della piu uma nao voce meu het een niet ik",
    ),
    (
        EMPTY,
        "a as me on or plus son ton car comment sans par t d m s re write writes writing ecris ecrire ecrivez redige rediger redigez \
         campaign campaigns campagne campagnes theme themes tone audience brief style please even both also etc via",
    ),
    (READER, "you your yours yourself u ur tu te toi ton ta tes vous votre vos"),
    (TU, "tu te toi ton ta tes"),
    (POLITE, "vous votre vos please kindly dear"),
    (
        STIFF,
        "sincerely regards hereby herewith furthermore pursuant cordialement veuillez salutations sinceres madame monsieur",
    ),
    (
        SPOKEN,
        "gonna wanna gotta kinda lol haha hahaha hehe hihi mdr ptdr omg hey hiya yeah yep nope cuz ya u ur guess oops psst coucou salut \
         ouais ouh oups bah hop",
    ),
    (
        WARM,
        "love loved loves lovely darling dear sweet sweetheart honey hug hugs kiss kisses heart thank thanks grateful happy glad miss \
         missed care welcome friend friends together appreciate aime adore cheri cherie coeur amour doux douce bisou bisous merci heureux \
         heureuse ravi ravie manques manquez pense bienvenue ami amie amis amies ensemble tendresse calin calins",
    ),
    (
        FLIRTY,
        "babe baby sexy hot naughty tease teasing tempt tempting temptation desire kiss kisses lips whisper secret crave craving wink flirt \
         handsome gorgeous dirty wild irresistible skin lingerie bebe chaud chaude coquin coquine coquins coquines envie desir embrasse \
         embrasser bisou bisous levres murmure tentation seduire craquer frissons peau beau caresse caresses",
    ),
    (SHORT, "t m re ll ve d"),
    (INSERT, "insert inserer inserez placeholder lorem ipsum todo tbd fill remplir completer"),
    (
        NAME,
        "name names nom noms prenom prenoms firstname lastname fullname surname surnom username pseudo nickname handle link lien url",
    ),
    (
        FIELD,
        "fan user date time heure day jour month mois city ville price prix amount montant title titre topic sujet brand marque company \
         product produit number numero email mail phone telephone platform plateforme creator creatrice createur recipient destinataire \
         location lieu country pays address adresse age subscriber abonne abonnee hashtag hashtags emoji emojis signature",
    ),
    (WHOSE, "your votre vos ton ta tes"),
];

/// What a folded word is.
pub(super) fn kinds(word: &str) -> u32 {
    static KINDS: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| {
        let mut kinds = HashMap::new();
        for (kind, words) in LISTS {
            words.split_whitespace().for_each(|word| *kinds.entry(word).or_default() |= kind);
        }
        kinds
    });
    KINDS.get(word).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_word_is_of_one_language_and_every_word_is_folded() {
        for word in LISTS.iter().flat_map(|(_, words)| words.split_whitespace()) {
            assert!((kinds(word) & FUNCTION).count_ones() <= 1, "{word} is of two languages");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word} is not folded");
        }
        assert_eq!(kinds("kiss"), WARM | FLIRTY);
        assert_eq!(kinds("vous"), FRENCH | READER | POLITE);
        assert_eq!(kinds("prenom"), NAME);
        assert_eq!(kinds("summer"), 0);
    }
}
